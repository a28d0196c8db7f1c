//! The settings for TLS, and which of them applies to one node.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_postgres::config::{Config, SslMode, SslNegotiation};

use super::{
    Encryption, Resolved, TlsParameters,
    files::{ClientCertificate, Roots, Tls},
    reach::Reach,
    verify::Verification,
};
use crate::error::{Error, Result};

/// The required protection of a connection: `sslmode` of a URL, with its meaning in libpq.
///
/// # Default
///
/// For a node that is not on this machine, [`VerifyFull`](Self::VerifyFull): anything weaker exposes the password's
/// proof and all data to a man in the middle. For `localhost` and loopback addresses, [`Prefer`](Self::Prefer), or
/// `VerifyFull` too as soon as any certificate is configured; a `hostaddr` beside such a host has to be a loopback
/// address as well. A Unix socket is never encrypted.
///
/// Without the feature `rustls`, a node that is not on this machine has no default: unless its URL says
/// `sslmode=disable` (or `prefer`), [`build`](crate::RouterBuilder::build) refuses it. Turning the feature on therefore
/// never makes a connection that was in plaintext by default require anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsMode {
    /// `disable`: never encrypted. For networks that nobody else uses.
    Disable,
    /// `prefer`: encrypted if the server supports it, without verification. A man in the middle can claim that it does
    /// not. With [certificates of an authority](TlsOptions::root_certificates), an encrypted connection is verified as
    /// for [`VerifyCa`](Self::VerifyCa).
    Prefer,
    /// `require`: always encrypted, without verification: no protection against a man in the middle. With [certificates
    /// of an authority](TlsOptions::root_certificates) it is [`VerifyCa`](Self::VerifyCa), as in libpq.
    Require,
    /// `verify-ca`: as `require`, and a trusted authority has signed the server's certificate, for any name. Only
    /// secure with an authority that signs for nobody but your own servers.
    VerifyCa,
    /// `verify-full`: as `verify-ca`, and the certificate is for the host name or address in the URL.
    VerifyFull,
}

/// The encryption of connections, for all nodes whose URL does not specify it (feature `rustls`).
///
/// A URL specifies the same with `sslmode`, `sslrootcert`, `sslcert` and `sslkey`. Each of these takes precedence over
/// the setting here, which takes precedence over `PGSSLMODE` and its like in the environment.
///
/// # Reload
///
/// The files are checked whenever a connection is opened. If they have changed, that connection and all later ones use
/// the new contents, so certificates are renewed without a restart. Write a new file beside the old one and rename it,
/// so that a half-written file is never read. Unusable contents (a missing file, a key that does not match the
/// certificate) are logged as a warning, and the last good contents stay in use. Open connections stay as they are, and
/// are [closed by and by](crate::RouterBuilder). The system's own authorities are read once.
///
/// # Cryptography
///
/// The provider is the one that the application has installed in rustls, otherwise ring. Passwords are bound to the
/// connection (SCRAM with channel binding) if the server offers that; `channel_binding=require` in a URL requires it.
///
/// ```no_run
/// # async fn run() -> mainstem::Result<()> {
/// use mainstem::{Router, TlsMode, TlsOptions};
///
/// let tls = TlsOptions::new()
///     .mode(TlsMode::VerifyFull)
///     .root_certificates("/etc/shop/ca.pem")
///     .client_certificate("/etc/shop/client.pem", "/etc/shop/client.key");
/// let router = Router::builder().tls(tls).primary("postgres://app@db-1.shop.example/shop").connect().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct TlsOptions {
    mode: Option<TlsMode>,
    root: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl TlsOptions {
    /// Returns the defaults: see [`TlsMode`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the required protection of connections. Defaults to what [`TlsMode`] says; `sslmode` in a URL.
    ///
    /// Too weak, and an attacker on the network can read along or answer in place of the server; too strong for the
    /// server's certificate, and every connection fails, with an error that says why.
    pub fn mode(mut self, mode: TlsMode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Sets the file (PEM) with the certificates of the trusted authorities. Defaults to those of the system;
    /// `sslrootcert` in a URL, where `system` means those.
    ///
    /// If there are too many, more people than necessary can issue a certificate for your server.
    pub fn root_certificates(mut self, file: impl Into<PathBuf>) -> Self {
        self.root = Some(file.into());
        self
    }

    /// Sets the files (PEM) with the certificate presented to the server, followed by its intermediates, and with its
    /// private key, which must not be encrypted. Defaults to none; `sslcert` and `sslkey` in a URL.
    pub fn client_certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        (self.certificate, self.key) = (Some(certificate.into()), Some(key.into()));
        self
    }
}

impl TlsOptions {
    /// Removes from the defaults for all URLs (the environment's) what was set here.
    pub(in crate::router) fn overrule(&self, defaults: &mut TlsParameters) {
        let said = [
            (self.mode.is_some(), &mut defaults.mode),
            (self.root.is_some(), &mut defaults.root),
            (self.certificate.is_some(), &mut defaults.certificate),
            (self.key.is_some(), &mut defaults.key),
        ];
        said.into_iter().filter(|(is_said, _)| *is_said).for_each(|(_, default)| *default = None);
    }
}

impl TlsMode {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "disable" => Self::Disable,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }

    /// What is requested from the server.
    fn demand(self) -> SslMode {
        match self {
            Self::Disable => SslMode::Disable,
            Self::Prefer => SslMode::Prefer,
            Self::Require | Self::VerifyCa | Self::VerifyFull => SslMode::Require,
        }
    }
}

/// Determines what applies to each node. Nodes with the same settings share the contents that were read for them.
#[derive(Debug, Default)]
pub(in crate::router) struct Resolver {
    options: TlsOptions,
    read: Vec<Arc<Tls>>,
}

impl Resolver {
    pub(in crate::router) fn new(options: TlsOptions) -> Self {
        Self { options, read: Vec::new() }
    }

    /// For the node that errors call `what`.
    pub(in crate::router) fn resolve(
        &mut self,
        parameters: &TlsParameters,
        config: &Config,
        what: &str,
    ) -> Result<Resolved> {
        let refused = |problem: &str| Err(Error::configuration(format!("the URL of {what} {problem}")));
        let mode = match parameters.mode.as_deref().map(TlsMode::parse) {
            Some(None) => {
                return refused("has an invalid sslmode: disable, prefer, require, verify-ca or verify-full");
            }
            Some(mode) => mode,
            None => self.options.mode,
        };
        let path =
            |given: &Option<String>, set: &Option<PathBuf>| given.as_ref().map(PathBuf::from).or_else(|| set.clone());
        let root = path(&parameters.root, &self.options.root);
        let certificate = path(&parameters.certificate, &self.options.certificate);
        let key = path(&parameters.key, &self.options.key);
        let reach = Reach::of(config);
        if reach == Reach::Socket {
            return Ok(Resolved::off());
        }
        let is_named = root.is_some() || certificate.is_some() || key.is_some();
        let mode = mode.unwrap_or(match reach {
            Reach::Local if !is_named => TlsMode::Prefer,
            _ => TlsMode::VerifyFull,
        });
        if config.get_ssl_negotiation() == SslNegotiation::Direct && mode.demand() != SslMode::Require {
            return refused("has sslnegotiation=direct, which needs sslmode=require or more");
        }
        let verification = match mode {
            TlsMode::Disable => return Ok(Resolved::off()),
            TlsMode::VerifyFull => Verification::Full,
            TlsMode::VerifyCa => Verification::Authority,
            // Otherwise a configured authority would have no effect.
            TlsMode::Prefer | TlsMode::Require if root.is_some() => Verification::Authority,
            TlsMode::Prefer | TlsMode::Require => Verification::None,
        };
        let roots = match root {
            _ if verification == Verification::None => Roots::None,
            Some(file) if file != Path::new("system") => Roots::File(file),
            Some(_) | None => Roots::System,
        };
        let client = match (certificate, key) {
            (Some(certificate), Some(key)) => Some(ClientCertificate { certificate, key }),
            (None, None) => None,
            (Some(_), None) => return refused("has a client certificate (sslcert), but no key to it (sslkey)"),
            (None, Some(_)) => return refused("has a key (sslkey), but no client certificate to it (sslcert)"),
        };
        let encryption = Encryption::On(self.read(verification, roots, client, what)?);
        Ok(Resolved { mode: mode.demand(), encryption })
    }

    fn read(
        &mut self,
        verification: Verification,
        roots: Roots,
        client: Option<ClientCertificate>,
        what: &str,
    ) -> Result<Arc<Tls>> {
        if let Some(known) = self.read.iter().find(|known| known.is_for(verification, &roots, client.as_ref())) {
            return Ok(Arc::clone(known));
        }
        let place = format!("TLS for {what}");
        let tls = Arc::new(Tls::read(verification, roots, client).map_err(|error| error.within(&place))?);
        self.read.push(Arc::clone(&tls));
        Ok(tls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(url: &str, options: TlsOptions) -> Result<(SslMode, Option<Verification>)> {
        let (rest, parameters) = TlsParameters::split(url);
        let resolved = Resolver::new(options).resolve(&parameters, &rest.parse().unwrap(), "the primary")?;
        let verification = match resolved.encryption {
            Encryption::Off => None,
            Encryption::On(tls) => Some(tls.verification()),
        };
        Ok((resolved.mode, verification))
    }

    #[test]
    fn a_node_elsewhere_is_verified_unless_somebody_says_otherwise() {
        let none = TlsOptions::new();
        let weak = TlsOptions::new().mode(TlsMode::Require);
        let off = (SslMode::Disable, None);
        let full = (SslMode::Require, Some(Verification::Full));
        let unverified = (SslMode::Require, Some(Verification::None));
        let cases = [
            ("postgres://h/d", &none, full),
            ("postgres://10.0.0.1/d", &none, full),
            ("postgres://localhost.example/d", &none, full),
            ("postgres://localhost/d", &none, (SslMode::Prefer, Some(Verification::None))),
            ("postgres://127.0.0.2/d", &none, (SslMode::Prefer, Some(Verification::None))),
            ("postgres://localhost/d?hostaddr=127.0.0.1", &none, (SslMode::Prefer, Some(Verification::None))),
            // `hostaddr` leads elsewhere.
            ("postgres://localhost/d?hostaddr=10.0.0.1", &none, full),
            ("host=/run/postgresql hostaddr=10.0.0.1", &none, full),
            ("postgres://h/d?hostaddr=127.0.0.1", &none, full),
            ("postgres://localhost/d?sslrootcert=system", &none, full),
            ("postgres://h/d?sslmode=disable", &none, off),
            ("postgres://h/d?sslmode=require", &none, unverified),
            (
                "postgres://h/d?sslmode=require&sslrootcert=system",
                &none,
                (SslMode::Require, Some(Verification::Authority)),
            ),
            ("postgres://h/d?sslmode=verify-ca", &none, (SslMode::Require, Some(Verification::Authority))),
            ("postgres://h/d", &weak, unverified),
            ("postgres://h/d?sslmode=verify-full", &weak, full),
            ("host=/run/postgresql sslmode=verify-full", &none, off),
        ];
        for (url, options, expected) in cases {
            assert_eq!(resolved(url, options.clone()).unwrap(), expected, "{url} with {options:?}");
        }
    }

    #[test]
    fn tls_parameters_that_cannot_be_honoured_are_refused_at_once() {
        let cases = [
            ("sslmode=allow", "invalid sslmode"),
            ("sslmode=verify-full&sslcert=/c", "sslkey"),
            ("sslkey=/c", "sslcert"),
            ("sslmode=prefer&sslnegotiation=direct", "direct"),
            ("sslrootcert=/nowhere/ca.pem", "/nowhere/ca.pem"),
        ];
        for (query, part) in cases {
            let error = resolved(&format!("postgres://h/d?{query}"), TlsOptions::new()).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Configuration);
            assert!(error.report().contains(part), "{} does not say {part}", error.report());
        }
    }
}
