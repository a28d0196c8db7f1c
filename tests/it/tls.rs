//! Encrypted connections, to a real server with certificates from our own authority (feature `rustls`).

mod authority;
mod recorder;

use std::{fs, path::Path, time::Duration};

use mainstem::{Client, ErrorKind, Result, Router, TlsMode, TlsOptions, testing::LocalCluster};
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep, timeout},
};

use crate::support::files::write;

use self::{
    authority::{Authority, NAME, Signed, file, server, url},
    recorder::Recorder,
};

struct Fixture {
    cluster: LocalCluster,
    authority: Authority,
    /// The authority's certificate.
    root: String,
}

/// What the tests share that don't change the server.
async fn fixture() -> &'static Fixture {
    static FIXTURE: OnceCell<Fixture> = OnceCell::const_new();
    let make = || async {
        let authority = Authority::new();
        let cluster = server(&authority, &authority.sign(NAME)).await;
        let root = file(&cluster, "ca.pem", authority.certificate()).display().to_string();
        Fixture { cluster, authority, root }
    };
    FIXTURE.get_or_init(make).await
}

async fn connect(url: String) -> Result<Router> {
    Router::builder().primary(url).connect().await
}

/// Whether the session is encrypted, and the name in the certificate that the client showed.
async fn session(router: &Router) -> (bool, Option<String>) {
    let sql = "SELECT ssl, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let row = router.client().await.unwrap().query_one(sql, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

fn refused(outcome: Result<Router>) -> String {
    let error = outcome.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{}", error.report());
    error.report()
}

/// Whether the server's programs were built without encryption, as some for tests are.
async fn cannot_encrypt() -> bool {
    let router = Router::builder().primary(crate::support::cluster().await.primary().url()).connect().await.unwrap();
    let sql = "SELECT setting = '' FROM pg_settings WHERE name = 'ssl_library'";
    let cannot: bool = router.client().await.unwrap().query_one(sql, &[]).await.unwrap().get(0);
    if cannot {
        eprintln!("SKIPPED: these PostgreSQL programs were built without TLS");
    }
    cannot
}

#[tokio::test]
async fn by_default_a_server_elsewhere_must_be_who_its_url_says() {
    if cannot_encrypt().await {
        return;
    }
    let Fixture { cluster, root, .. } = fixture().await;
    let root = format!("sslrootcert={root}");
    let router = connect(url(cluster, &[&root])).await.unwrap();
    assert_eq!(session(&router).await, (true, None));
    // The system knows nothing of our authority.
    let report = refused(connect(url(cluster, &[])).await);
    assert!(report.contains("UnknownIssuer") || report.contains("unknown issuer"), "{report}");
    let other = url(cluster, &[&root]).replace(NAME, "other.mainstem.example");
    let report = refused(connect(other.clone()).await);
    assert!(report.contains("not valid for name"), "{report}");
    // Each of the weaker modes leaves one of these out.
    let router = connect(format!("{other}&sslmode=verify-ca")).await.unwrap();
    assert!(session(&router).await.0);
    let router = connect(url(cluster, &["sslmode=require"])).await.unwrap();
    assert!(session(&router).await.0);
    let router = connect(url(cluster, &["sslmode=prefer"])).await.unwrap();
    assert!(session(&router).await.0);
    let router = connect(url(cluster, &["sslmode=disable"])).await.unwrap();
    assert!(!session(&router).await.0);
}

#[tokio::test]
async fn a_named_authority_is_not_named_in_vain() {
    if cannot_encrypt().await {
        return;
    }
    let Fixture { cluster, .. } = fixture().await;
    let stranger = file(cluster, "stranger.pem", Authority::new().certificate());
    let root = format!("sslrootcert={}", stranger.display());
    for mode in ["prefer", "require", "verify-ca", "verify-full"] {
        let report = refused(connect(url(cluster, &[&root, &format!("sslmode={mode}")])).await);
        assert!(report.contains("not believed"), "{mode}: {report}");
    }
}

#[tokio::test]
async fn the_settings_hold_where_the_url_says_nothing() {
    if cannot_encrypt().await {
        return;
    }
    let Fixture { cluster, root, .. } = fixture().await;
    let options = TlsOptions::new().root_certificates(root).mode(TlsMode::VerifyFull);
    let router = |url: String| Router::builder().tls(options.clone()).primary(url).connect();
    assert!(session(&router(url(cluster, &[])).await.unwrap()).await.0);
    assert!(!session(&router(url(cluster, &["sslmode=disable"])).await.unwrap()).await.0);
}

#[tokio::test]
async fn a_server_that_does_not_encrypt_is_refused_unless_that_is_allowed() {
    let plain = crate::support::cluster().await;
    let report = refused(connect(url(plain, &[])).await);
    assert!(report.contains("does not support TLS"), "{report}");
    assert!(!session(&connect(url(plain, &["sslmode=prefer"])).await.unwrap()).await.0);
}

#[tokio::test]
async fn a_password_is_bound_to_the_encrypted_connection() {
    if cannot_encrypt().await {
        return;
    }
    let Fixture { cluster, root, .. } = fixture().await;
    let root = format!("sslrootcert={root}");
    let router = connect(url(cluster, &[&root, "channel_binding=require"])).await.unwrap();
    assert!(session(&router).await.0);
    let report = refused(connect(url(cluster, &["sslmode=disable", "channel_binding=require"])).await);
    assert!(report.contains("channel binding"), "{report}");
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    if cannot_encrypt().await {
        return;
    }
    let authority = Authority::new();
    let cluster = server(&authority, &authority.sign_until(NAME, 2020)).await;
    let root = file(&cluster, "ca.pem", authority.certificate());
    for mode in ["verify-ca", "verify-full"] {
        let parameters = [format!("sslrootcert={}", root.display()), format!("sslmode={mode}")];
        let report = refused(connect(url(&cluster, &parameters.each_ref().map(String::as_str))).await);
        assert!(report.contains("expired"), "{mode}: {report}");
    }
}

#[tokio::test]
async fn a_cancel_goes_the_same_way() {
    if cannot_encrypt().await {
        return;
    }
    let Fixture { cluster, root, .. } = fixture().await;
    let recorder = Recorder::start(cluster.primary().port()).await;
    let there = |port: u16| format!(":{port}/");
    let url = url(cluster, &[&format!("sslrootcert={root}")]);
    let router = connect(url.replace(&there(cluster.primary().port()), &there(recorder.port()))).await.unwrap();
    let client = router.client().await.unwrap();
    timeout(Duration::from_millis(300), client.batch_execute("SELECT pg_sleep(600)")).await.unwrap_err();
    drop(client);
    let watcher = connect(url).await.unwrap();
    let client = watcher.client().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let sleepers = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'";
    while client.query_one(sleepers, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        assert!(Instant::now() < deadline, "the server was not told to cancel");
        sleep(Duration::from_millis(20)).await;
    }
    let asked = recorder.first_words();
    assert!(asked.len() >= 2 && asked.iter().all(|asked| asked.is_ssl_request()), "{asked:?}");
}

/// Connects anew, with what the files hold now, until the outcome is as expected: a node that has just been lost is left alone
/// for a moment.
async fn reconnected(router: &Router, expected: impl Fn(&Result<Client>) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Ok(client) = router.client().await {
            // What ends itself is not pooled, so the next one is opened.
            let _ = client.batch_execute("SELECT pg_terminate_backend(pg_backend_pid())").await;
            client.batch_execute("").await.unwrap_err();
        }
        let outcome = router.client().await;
        if expected(&outcome) {
            return;
        }
        let outcome = outcome.map_err(|error| error.report());
        assert!(Instant::now() < deadline, "{outcome:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

fn is_refused(outcome: &Result<Client>) -> bool {
    outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::Configuration)
}

#[tokio::test]
async fn another_authority_is_believed_without_a_restart() {
    if cannot_encrypt().await {
        return;
    }
    let Fixture { cluster, authority, .. } = fixture().await;
    let root = file(cluster, "changing.pem", authority.certificate());
    let builder = Router::builder().acquire_timeout(Duration::from_secs(10)).max_connections(1).probe_interval(None);
    let parameter = format!("sslrootcert={}", root.display());
    let router = builder.primary(url(cluster, &[&parameter])).connect().await.unwrap();
    reconnected(&router, Result::is_ok).await;
    write(&root, Authority::new().certificate());
    reconnected(&router, is_refused).await;
    // Both of them: so authorities are changed.
    write(&root, &format!("{}{}", Authority::new().certificate(), authority.certificate()));
    reconnected(&router, Result::is_ok).await;
    // What cannot be used is not used.
    write(&root, "no certificate");
    reconnected(&router, Result::is_ok).await;
    fs::remove_file(&root).unwrap();
    reconnected(&router, Result::is_ok).await;
    assert!(session(&router).await.0);
    // At a start there is nothing to go on with.
    let report = refused(connect(url(cluster, &[&parameter])).await);
    assert!(report.contains("changing.pem"), "{report}");
}

#[tokio::test]
async fn client_certificates_are_shown_and_renewed() {
    if cannot_encrypt().await {
        return;
    }
    let Fixture { cluster, authority, root } = fixture().await;
    let guest = |parameters: &[&str]| {
        let url = url(cluster, parameters);
        let (_, at) = url.split_once('@').unwrap();
        format!("postgres://guest@{at}&sslrootcert={root}")
    };
    let report = refused(connect(guest(&[])).await);
    assert!(report.contains("certificate"), "{report}");
    let first = authority.sign("guest");
    let certificate = file(cluster, "guest.pem", &first.certificate);
    let key = file(cluster, "guest.key", &first.key);
    let shown = [format!("sslcert={}", certificate.display()), format!("sslkey={}", key.display())];
    let url = guest(&shown.each_ref().map(String::as_str));
    let builder = Router::builder().max_connections(1).probe_interval(None).primary(&url);
    let router = builder.connect().await.unwrap();
    assert_eq!(session(&router).await, (true, Some("/CN=guest".to_owned())));
    assert_shown(&router, &first).await;
    // Half of a change: the old pair stays in use.
    let second = authority.sign("guest");
    write(&certificate, &second.certificate);
    reconnected(&router, Result::is_ok).await;
    assert_shown(&router, &first).await;
    write(&key, &second.key);
    reconnected(&router, Result::is_ok).await;
    assert_shown(&router, &second).await;
    // Somebody else's: the server refuses it, so it was shown.
    replace(&certificate, &key, &Authority::new().sign("guest"));
    reconnected(&router, is_refused).await;
    replace(&certificate, &key, &first);
    reconnected(&router, Result::is_ok).await;
    assert_shown(&router, &first).await;
    // A key that is of another certificate, from the start.
    write(&key, &second.key);
    let report = refused(connect(url).await);
    assert!(report.contains("belong together") && !report.contains("PRIVATE"), "{report}");
}

fn replace(certificate: &Path, key: &Path, signed: &Signed) {
    write(certificate, &signed.certificate);
    write(key, &signed.key);
}

/// The server has been shown this very certificate.
async fn assert_shown(router: &Router, signed: &Signed) {
    let sql = "SELECT client_serial::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let serial: String = router.client().await.unwrap().query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(serial, signed.serial, "another certificate was shown");
}
