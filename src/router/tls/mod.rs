//! Whether connections to a node are encrypted, and whom they believe.
//!
//! | file | what it holds |
//! |---|---|
//! | `parameters` | what a URL says of it; also without the feature, to refuse what could not be kept |
//! | `options` | the settings for all nodes, and which of them holds for one |
//! | `files` | certificates and keys in files, read again when they have changed |
//! | `verify` | who is believed |
//!
//! The type of an encrypted stream ends here: it is in no signature of the user's.

#[cfg(feature = "rustls")]
mod files;
#[cfg(feature = "rustls")]
mod options;
mod parameters;
#[cfg(feature = "rustls")]
mod verify;

use tokio_postgres::config::{Config, SslMode};

#[cfg(feature = "rustls")]
pub use self::options::{TlsMode, TlsOptions};
pub(super) use self::parameters::TlsParameters;
#[cfg(feature = "rustls")]
pub(super) use self::{options::Resolver, verify::refusal};
#[cfg(not(feature = "rustls"))]
use crate::error::{Error, Result};

/// How a node's connections are encrypted.
#[derive(Clone, Debug)]
pub(super) enum Encryption {
    Off,
    #[cfg(feature = "rustls")]
    On(std::sync::Arc<files::Tls>),
}

/// What holds for one node.
pub(super) struct Resolved {
    /// What the driver asks the server for.
    mode: SslMode,
    encryption: Encryption,
}

impl Resolved {
    pub(super) fn off() -> Self {
        Self { mode: SslMode::Disable, encryption: Encryption::Off }
    }

    /// Tells the driver's settings what to ask for, and returns the rest.
    pub(super) fn apply(&self, config: &mut Config) -> Encryption {
        config.ssl_mode(self.mode);
        self.encryption.clone()
    }
}

/// Without the feature: refuses what asks for more than could be kept.
#[cfg(not(feature = "rustls"))]
#[derive(Debug, Default)]
pub(super) struct Resolver;

#[cfg(not(feature = "rustls"))]
impl Resolver {
    #[expect(clippy::needless_pass_by_ref_mut, reason = "with the feature, it keeps what it has read")]
    pub(super) fn resolve(&mut self, parameters: &TlsParameters, _: &Config, what: &str) -> Result<Resolved> {
        let names_files = parameters.root.is_some() || parameters.certificate.is_some() || parameters.key.is_some();
        let demand = match (parameters.mode.as_deref(), names_files) {
            (None | Some("disable" | "prefer"), false) => return Ok(Resolved::off()),
            (None | Some("disable" | "prefer"), true) => "certificates".to_owned(),
            (Some(mode @ ("require" | "verify-ca" | "verify-full")), _) => format!("sslmode={mode}"),
            (Some(_), _) => {
                let message = format!("the URL of {what} has an invalid sslmode: disable or prefer");
                return Err(Error::configuration(message));
            }
        };
        let message = format!(
            "the URL of {what} asks for TLS ({demand}), which this build cannot do: turn on the feature `rustls` of \
             mainstem, or hand over a pool that encrypts"
        );
        Err(Error::configuration(message))
    }
}

#[cfg(all(test, not(feature = "rustls")))]
mod tests {
    use super::*;

    #[test]
    fn what_asks_for_encryption_is_refused_and_never_sent_in_the_clear() {
        let asks = |query: &str| {
            let (rest, parameters) = TlsParameters::split(&format!("postgres://app:secret@h/d?{query}"));
            Resolver.resolve(&parameters, &rest.parse().unwrap(), "replica 1").map(drop)
        };
        for query in ["sslmode=require", "sslmode=verify-ca", "sslmode=verify-full", "sslrootcert=/ca.pem"] {
            let error = asks(query).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Configuration);
            for part in ["replica 1", "feature `rustls`"] {
                assert!(error.report().contains(part), "{} does not say {part}", error.report());
            }
            assert!(!error.report().contains("secret"));
        }
        assert!(asks("sslmode=enough").unwrap_err().report().contains("invalid sslmode"));
        asks("sslmode=disable").unwrap();
        asks("").unwrap();
    }
}
