//! Our own authority, what it signs, and a server with that.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use mainstem::{Router, testing::LocalCluster};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio::time::{Instant, sleep};

use crate::support::{files, started};

/// The name that the server's certificate is for. Nobody resolves it: URLs say by `hostaddr` where it is.
pub(crate) const NAME: &str = "db.mainstem.example";

pub(crate) struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
    serials: AtomicU64,
}

/// A certificate and its key, in PEM.
pub(crate) struct Signed {
    /// As the server shows it: a decimal number.
    pub(crate) serial: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Mainstem's tests");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { certificate, issuer: Issuer::new(params, key), serials: AtomicU64::new(1) }
    }

    /// Its own certificate, in PEM.
    pub(crate) fn certificate(&self) -> &str {
        &self.certificate
    }

    pub(crate) fn sign(&self, name: &str) -> Signed {
        self.sign_until(name, 2100)
    }

    /// A certificate for this host or user that ends with the year before.
    pub(crate) fn sign_until(&self, name: &str, year: i32) -> Signed {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = date_time_ymd(year, 1, 1);
        let serial = self.serials.fetch_add(1, Ordering::Relaxed);
        params.serial_number = Some(serial.into());
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Signed { serial: serial.to_string(), certificate, key: key.serialize_pem() }
    }
}

/// A primary that encrypts, believes this authority's client certificates, and lets the user `guest` in with one only.
pub(crate) async fn server(authority: &Authority, identity: &Signed) -> LocalCluster {
    let cluster = started(LocalCluster::builder().replicas(0)).await;
    let data = cluster.primary().data_folder();
    files::write(&data.join("server.crt"), &identity.certificate);
    files::write(&data.join("server.key"), &identity.key);
    files::write(&data.join("clients.crt"), authority.certificate());
    let plain = Router::builder().primary(cluster.primary().url()).connect().await.unwrap();
    let client = plain.client().await.unwrap();
    let rules: String = client.query_one("SELECT current_setting('hba_file')", &[]).await.unwrap().get(0);
    let others = fs::read_to_string(&rules).unwrap();
    files::write(Path::new(&rules), &format!("hostssl all guest 127.0.0.1/32 cert\n{others}"));
    client.batch_execute("CREATE ROLE guest LOGIN").await.unwrap();
    for setting in ["ssl_ca_file = 'clients.crt'", "ssl = on"] {
        client.batch_execute(&format!("ALTER SYSTEM SET {setting}")).await.unwrap();
    }
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let url = url(&cluster, &["sslmode=require"]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = Router::builder().primary(&url).connect().await {
        assert!(Instant::now() < deadline, "the server does not encrypt: {}", error.report());
        sleep(Duration::from_millis(20)).await;
    }
    cluster
}

/// The URL of the primary, by the name of its certificate, with these parameters.
pub(crate) fn url(cluster: &LocalCluster, parameters: &[&str]) -> String {
    let url = cluster.primary().url().replace("@127.0.0.1:", &format!("@{NAME}:"));
    format!("{url}?hostaddr=127.0.0.1&{}", parameters.join("&"))
}

/// A file in the cluster's folder, where it ends with the cluster.
pub(crate) fn file(cluster: &LocalCluster, name: &str, contents: &str) -> PathBuf {
    files::write(&cluster.folder().join(name), contents)
}
