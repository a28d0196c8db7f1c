//! The URL of a node: the settings in it, and what must never leave it.

use std::{str::FromStr, time::Duration};

use tokio_postgres::{Config, config::Host};

use super::{Role, tls::TlsParameters};
use crate::error::{Error, Result};

/// What the URL of one node says.
pub(super) struct NodeUrl {
    /// `host:port`.
    pub(super) name: String,
    /// The driver's settings, without those of TLS.
    pub(super) config: Config,
    pub(super) tls: TlsParameters,
}

/// The settings of one node, which the errors call `what`.
///
/// The text holds a password: neither it nor a part of it may be in a message, and the driver's own errors quote it.
pub(super) fn parse(url: &str, what: &str, connect_timeout: Duration) -> Result<NodeUrl> {
    let refused = |problem: &str| Err(Error::configuration(format!("the URL of {what} {problem}")));
    let after_scheme = ["postgres://", "postgresql://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    if after_scheme.is_none() && url.contains("://") {
        return refused("begins with something else than postgres:// or postgresql://");
    }
    // The driver takes the first @ for the end of the password, and the rest of it for the host, which errors name.
    if after_scheme.is_some_and(|rest| rest.split('?').next().unwrap_or(rest).matches('@').count() > 1) {
        return refused("has an @ too many: write %40 for one in the name or the password");
    }
    let (rest, tls) = TlsParameters::split(url);
    let mut config = match Config::from_str(&rest) {
        Ok(config) => config,
        Err(error) => {
            let shape = "write postgres://user:password@host:port/database, and %-codes for special characters";
            return refused(&match wrong_option(&error) {
                Some(option) => format!("has an invalid {option}"),
                None => format!("cannot be read: {shape}"),
            });
        }
    };
    let host = match config.get_hosts() {
        [Host::Tcp(host)] => host.clone(),
        #[cfg(unix)]
        [Host::Unix(path)] => path.display().to_string(),
        [] => return refused("names no host"),
        several => return refused(&format!("names {} hosts: give each node a URL", several.len())),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(connect_timeout);
    }
    if config.get_application_name().is_none() {
        config.application_name("mainstem");
    }
    let given = config.get_options().unwrap_or_default();
    let mut options = given.to_owned();
    if !given.contains("jit") {
        // Compiling pays for reports, not for the short statements that a pool is for: a search that the planner
        // misjudges by some orders takes 30 ms longer, and one with thousands of conditions never ends.
        options.push_str(" -c jit=off");
    }
    config.options(options.trim_start());
    Ok(NodeUrl { name: format!("{host}:{port}"), config, tls })
}

impl NodeUrl {
    /// The driver's settings while the node plays this role.
    pub(super) fn config(&self, role: Role) -> Config {
        let mut config = self.config.clone();
        if role == Role::Replica {
            // A standby refuses writes by itself, until it is promoted: then this does.
            let options = config.get_options().unwrap_or_default();
            config.options(format!("{options} -c default_transaction_read_only=on").trim_start());
        }
        config
    }
}

/// The option whose value the driver does not take, if it is one that the driver knows: anything else may be a part of
/// the password that was taken for an option.
fn wrong_option(error: &tokio_postgres::Error) -> Option<&'static str> {
    let text = std::error::Error::source(error)?.to_string();
    let known = ["port", "connect_timeout", "sslnegotiation", "target_session_attrs", "channel_binding", "keepalives"];
    known.into_iter().find(|option| text == format!("invalid value for option `{option}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_read_only_besides_its_own_options() {
        let url = "postgres://localhost/shop?options=-c%20work_mem%3D1MB";
        let parsed = parse(url, "it", Duration::from_secs(1)).unwrap();
        assert_eq!(parsed.name, "localhost:5432");
        let read_only = "-c work_mem=1MB -c jit=off -c default_transaction_read_only=on";
        assert_eq!(parsed.config(Role::Replica).get_options(), Some(read_only));
        assert_eq!(parsed.config(Role::Primary).get_options(), Some("-c work_mem=1MB -c jit=off"));
        let url = "postgres://localhost/shop?options=-c%20jit%3Don";
        let parsed = parse(url, "it", Duration::from_secs(1)).unwrap();
        assert_eq!(parsed.config(Role::Primary).get_options(), Some("-c jit=on"));
    }
}
