//! Certificates and keys in files, read again when they have changed.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use sha2::{Digest, Sha256};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::verify::{Verification, verifier};
use crate::error::{Error, Result};

/// The protocol's ALPN name, without which a server refuses a TLS handshake that no `SSLRequest` precedes.
const ALPN: &[u8] = b"postgresql";

/// The trusted authorities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Roots {
    None,
    System,
    File(PathBuf),
}

/// The certificate presented to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientCertificate {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// The encryption of connections, according to the files at this moment.
pub(in crate::router) struct Tls {
    verification: Verification,
    roots: Roots,
    client: Option<ClientCertificate>,
    current: Mutex<Current>,
}

struct Current {
    connector: MakeRustlsConnect,
    /// Of the contents of the files.
    digest: [u8; 32],
    /// What was wrong with the files when they were last read: it is logged once.
    problem: Option<String>,
}

/// The contents of the files.
#[derive(Default)]
struct Contents {
    roots: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Tls {
    pub(super) fn read(verification: Verification, roots: Roots, client: Option<ClientCertificate>) -> Result<Self> {
        let contents = Contents::read(&roots, client.as_ref())?;
        let connector = contents.connector(verification, &roots, client.as_ref())?;
        let current = Current { connector, digest: contents.digest(), problem: None };
        Ok(Self { verification, roots, client, current: Mutex::new(current) })
    }

    pub(super) fn is_for(&self, verification: Verification, roots: &Roots, client: Option<&ClientCertificate>) -> bool {
        self.verification == verification && self.roots == *roots && self.client.as_ref() == client
    }

    #[cfg(test)]
    pub(super) fn verification(&self) -> Verification {
        self.verification
    }

    /// The connector that encrypts the next connection.
    pub(in crate::router) async fn connector(self: &Arc<Self>) -> MakeRustlsConnect {
        if matches!(self.roots, Roots::File(_)) || self.client.is_some() {
            let tls = Arc::clone(self);
            // Reading files may block. A runtime that shuts down does not run this, and needs no new contents.
            let _ = tokio::task::spawn_blocking(move || tls.look()).await;
        }
        self.current().connector.clone()
    }

    /// Adopts what has changed, if it is usable.
    fn look(&self) {
        let (roots, client) = (&self.roots, self.client.as_ref());
        let contents = Contents::read(roots, client);
        let mut current = self.current();
        let changed = contents.and_then(|contents| match contents.digest() {
            digest if digest == current.digest => Ok(None),
            digest => contents.connector(self.verification, roots, client).map(|connector| Some((connector, digest))),
        });
        match changed {
            Ok(changed) => {
                if let Some((connector, digest)) = changed {
                    tracing::info!(tls = ?self, "certificates have changed; new connections use them");
                    (current.connector, current.digest) = (connector, digest);
                }
                current.problem = None;
            }
            Err(error) => {
                let problem = Some(error.report());
                if current.problem != problem {
                    tracing::warn!(
                        error = problem,
                        "certificates cannot be used; new connections use the last good ones"
                    );
                    current.problem = problem;
                }
            }
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    fn read(roots: &Roots, client: Option<&ClientCertificate>) -> Result<Self> {
        let mut contents = Self::default();
        if let Roots::File(file) = roots {
            contents.roots = read(file)?;
        }
        if let Some(ClientCertificate { certificate, key }) = client {
            (contents.certificate, contents.key) = (read(certificate)?, read(key)?);
        }
        Ok(contents)
    }

    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for part in [&self.roots, &self.certificate, &self.key] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }

    fn connector(
        &self,
        verification: Verification,
        roots: &Roots,
        client: Option<&ClientCertificate>,
    ) -> Result<MakeRustlsConnect> {
        let provider = CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(ring::default_provider()));
        let store = match roots {
            Roots::None => RootCertStore::empty(),
            Roots::System => system_roots()?,
            Roots::File(file) => roots_in(file, &self.roots)?,
        };
        let verifier = verifier(verification, store, &provider)?;
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let versions = versions.map_err(|error| Error::configuration("no TLS version").with_source(error))?;
        let builder = versions.dangerous().with_custom_certificate_verifier(verifier);
        let mut config = match client {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let chain = certificates(&files.certificate, &self.certificate)?;
                // Never keep the cause: it could quote the key.
                let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| {
                    let file = files.key.display();
                    Error::configuration(format!("{file} holds no private key in PEM that is not encrypted"))
                })?;
                builder.with_client_auth_cert(chain, key).map_err(|error| {
                    let (certificate, key) = (files.certificate.display(), files.key.display());
                    let message = format!("{certificate} and {key} do not belong together, or cannot be used");
                    Error::configuration(message).with_source(error)
                })?
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(MakeRustlsConnect::new(config))
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file)
        .map_err(|error| Error::configuration(format!("{} cannot be read", file.display())).with_source(error))
}

fn certificates(file: &Path, contents: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(contents).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(Error::configuration(format!("{} holds no certificates in PEM", file.display()))),
    }
}

fn roots_in(file: &Path, contents: &[u8]) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file, contents)? {
        roots.add(certificate).map_err(|error| {
            let message = format!("{} holds something else than the certificate of an authority", file.display());
            Error::configuration(message).with_source(error)
        })?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let message = "this system has no certificates of authorities: install them (often the package \
                       ca-certificates), or name a file by sslrootcert, or say sslmode=disable";
        let error = Error::configuration(message);
        return Err(match found.errors.into_iter().next() {
            Some(cause) => error.with_source(cause),
            None => error,
        });
    }
    Ok(roots)
}

/// Leaves out the contents of the files.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("verification", &self.verification)
            .field("roots", &self.roots)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}
