//! Whether connections to a node are encrypted, and which certificates they trust.
//!
//! | file | what it holds |
//! |---|---|
//! | `parameters` | the TLS parameters of a URL; also without the feature, to refuse what could not be honoured |
//! | `reach` | whether a node is on this machine; also without the feature, to refuse plaintext that was not requested |
//! | `options` | the settings for all nodes, and which of them applies to one |
//! | `files` | certificates and keys in files, reread when they have changed |
//! | `verify` | which certificates are trusted |
//!
//! The type of an encrypted stream does not leave this module: it appears in no signature of the user's.

#[cfg(feature = "rustls")]
mod files;
#[cfg(feature = "rustls")]
mod options;
mod parameters;
mod reach;
#[cfg(feature = "rustls")]
mod verify;

#[cfg(not(feature = "rustls"))]
use tokio_postgres::config::SslNegotiation;
use tokio_postgres::config::{Config, SslMode};

#[cfg(feature = "rustls")]
pub use self::options::{TlsMode, TlsOptions};
pub(in crate::router) use self::parameters::TlsParameters;
#[cfg(not(feature = "rustls"))]
use self::reach::Reach;
#[cfg(feature = "rustls")]
pub(in crate::router) use self::{options::Resolver, verify::refusal};
#[cfg(not(feature = "rustls"))]
use crate::error::{Error, Result};

/// How a node's connections are encrypted.
#[derive(Clone, Debug)]
pub(in crate::router) enum Encryption {
    Off,
    #[cfg(feature = "rustls")]
    On(std::sync::Arc<files::Tls>),
}

/// What applies to one node.
pub(in crate::router) struct Resolved {
    /// What the driver requests from the server.
    mode: SslMode,
    encryption: Encryption,
}

impl Resolved {
    pub(in crate::router) fn off() -> Self {
        Self { mode: SslMode::Disable, encryption: Encryption::Off }
    }

    /// Sets in the driver's configuration what to request, and returns the rest.
    pub(in crate::router) fn apply(&self, config: &mut Config) -> Encryption {
        config.ssl_mode(self.mode);
        self.encryption.clone()
    }
}

/// Without the feature: refuses parameters that require more than could be honoured, and parameters that leave it to
/// the feature whether there is plaintext on a network. With the feature, the latter connection is verified; turning
/// the feature on or off must not change how a server is contacted.
#[cfg(not(feature = "rustls"))]
#[derive(Debug, Default)]
pub(in crate::router) struct Resolver;

#[cfg(not(feature = "rustls"))]
impl Resolver {
    #[expect(clippy::needless_pass_by_ref_mut, reason = "with the feature, it keeps what it has read")]
    pub(in crate::router) fn resolve(
        &mut self,
        parameters: &TlsParameters,
        config: &Config,
        what: &str,
    ) -> Result<Resolved> {
        let refused = |problem: &str| Err(Error::configuration(format!("the URL of {what} {problem}")));
        let names_files = parameters.root.is_some() || parameters.certificate.is_some() || parameters.key.is_some();
        let reach = Reach::of(config);
        let is_direct = config.get_ssl_negotiation() == SslNegotiation::Direct && reach != Reach::Socket;
        let demand = match parameters.mode.as_deref() {
            Some(mode @ ("require" | "verify-ca" | "verify-full")) => format!("sslmode={mode}"),
            None | Some("disable" | "prefer") if names_files => "certificates".to_owned(),
            None | Some("disable" | "prefer") if is_direct => "sslnegotiation=direct".to_owned(),
            None if reach == Reach::Remote => {
                return refused(
                    "leads to another machine, and does not say whether this connection may be in plaintext: say \
                     sslmode=disable if it may, or turn on the feature `rustls` of mainstem, which encrypts it, or hand \
                     over a pool that does",
                );
            }
            None | Some("disable" | "prefer") => return Ok(Resolved::off()),
            Some(_) => return refused("has an invalid sslmode: disable or prefer"),
        };
        refused(&format!(
            "asks for TLS ({demand}), which this build cannot do: turn on the feature `rustls` of mainstem, or hand over a \
             pool that encrypts"
        ))
    }
}

/// Behaviour without TLS built in. The tests of `options` cover the behaviour with it.
#[cfg(all(test, not(feature = "rustls")))]
mod tests {
    use super::*;
    use crate::{ErrorKind, Router, RouterBuilder};

    const PLAIN: &str = "say sslmode=disable if it may, or turn on the feature `rustls`";

    fn refused(outcome: Result<impl Sized>, parts: &[&str]) {
        let Err(error) = outcome else { panic!("what should say {parts:?} passes") };
        assert_eq!(error.kind(), ErrorKind::Configuration);
        let report = error.report();
        assert!(parts.iter().all(|part| report.contains(part)), "{report} does not say {parts:?}");
        assert!(!report.contains("secret"), "{report}");
    }

    #[test]
    fn urls_that_require_tls_are_refused_without_the_rustls_feature() {
        let asks = |host: &str, query: &str| {
            let (rest, parameters) = TlsParameters::split(&format!("postgres://app:secret@{host}/d?{query}"));
            Resolver.resolve(&parameters, &rest.parse().unwrap(), "replica 1").map(drop)
        };
        for host in ["h", "localhost"] {
            for query in [
                "sslmode=require",
                "sslmode=verify-ca",
                "sslmode=verify-full",
                "sslrootcert=/ca.pem",
                "sslmode=prefer&sslcert=/c.pem",
                "sslnegotiation=direct",
                "sslmode=prefer&sslnegotiation=direct",
            ] {
                refused(asks(host, query), &["replica 1", "asks for TLS", "feature `rustls`"]);
            }
            refused(asks(host, "sslmode=enough"), &["invalid sslmode"]);
            asks(host, "sslmode=disable").unwrap();
            // Accepting plaintext if necessary is the meaning of `prefer`.
            asks(host, "sslmode=prefer").unwrap();
        }
    }

    #[tokio::test]
    async fn a_node_elsewhere_is_spoken_to_in_plaintext_only_if_its_url_says_so() {
        let build = |url: &str| Router::builder().primary(url).probe_interval(None).build();
        let elsewhere = [
            "postgres://app:secret@primary/shop",
            "postgres://app:secret@10.0.0.1/shop",
            "postgres://app:secret@[fd00::1]/shop",
            "postgres://app:secret@db.example/shop?hostaddr=127.0.0.1",
            "postgres://app:secret@localhost/shop?hostaddr=10.0.0.1",
            "host=db.example password=secret",
            #[cfg(unix)]
            "host=/run/postgresql hostaddr=10.0.0.1 password=secret",
        ];
        for url in elsewhere {
            refused(build(url), &["the primary", PLAIN]);
            let (sign, mark) = if url.contains("://") { ('&', '?') } else { (' ', ' ') };
            let by = if url.contains('?') { sign } else { mark };
            build(&format!("{url}{by}sslmode=disable")).unwrap();
        }
        let here =
            ["postgres://localhost/d", "postgres://127.0.0.2/d", "postgres://[::1]/d", "host=localhost hostaddr=::1"];
        for url in here {
            build(url).unwrap();
        }
        #[cfg(unix)]
        build("host=/run/postgresql").unwrap();
    }

    #[tokio::test]
    async fn so_is_each_node_by_whatever_way_it_comes() {
        let local = || Router::builder().primary("postgres://localhost/d");
        refused(local().replica("postgres://app:secret@b/d").build(), &["replica 1", PLAIN]);
        refused(local().replicas_by_name("postgres://app:secret@replicas/d").build(), &[PLAIN]);
        refused(RouterBuilder::from_url("postgres://localhost,b/d").unwrap().build(), &["node 2 of the list", PLAIN]);
        let vars = [("PGHOST", "localhost,b"), ("PGPASSWORD", "secret")];
        refused(RouterBuilder::from_vars(vars).unwrap().build(), &["node 2 of the list", PLAIN]);
        let router = local().build().unwrap();
        refused(router.set_replicas(["postgres://app:secret@b/d"]), &[PLAIN]);
        router.set_replicas(["postgres://app:secret@b/d?sslmode=disable"]).unwrap();
    }
}
