//! The URL of a node: the settings in it, and the secrets that must never leave it.

use std::{str::FromStr, time::Duration};

use tokio_postgres::{Config, config::Host};

use super::tls::TlsParameters;
use crate::{
    error::{Error, Result},
    router::Role,
};

pub(in crate::router) const DEFAULT_PORT: u16 = 5432;

pub(in crate::router) const STRAY_AT: &str = "has an @ too many: write %40 for one in the name or the password";

/// What applies if a URL does not specify it. It contains a password, so it is not `Debug`.
#[derive(Clone, Default)]
pub(in crate::router) struct Defaults {
    pub(in crate::router) user: Option<String>,
    pub(in crate::router) password: Option<String>,
    pub(in crate::router) database: Option<String>,
    pub(in crate::router) application_name: Option<String>,
    pub(in crate::router) options: Option<String>,
    pub(in crate::router) connect_timeout: Option<Duration>,
    pub(in crate::router) tls: TlsParameters,
}

/// The contents of one node's URL.
pub(in crate::router) struct NodeUrl {
    /// `host:port`.
    pub(in crate::router) name: String,
    /// The driver's settings, without those for TLS.
    pub(in crate::router) config: Config,
    pub(in crate::router) tls: TlsParameters,
}

/// Parses the settings of one node, which errors call `what`.
///
/// The text contains a password: neither it nor any part of it may appear in a message, and the driver's own errors
/// quote it.
pub(in crate::router) fn parse(
    url: &str,
    what: &str,
    connect_timeout: Duration,
    defaults: &Defaults,
) -> Result<NodeUrl> {
    let refused = |problem: &str| Err(Error::configuration(format!("the URL of {what} {problem}")));
    let after_scheme = after_scheme(url);
    if after_scheme.is_none() && url.contains("://") {
        return refused("begins with something else than postgres:// or postgresql://");
    }
    if after_scheme.is_some_and(has_stray_at) {
        return refused(STRAY_AT);
    }
    let (rest, mut tls) = TlsParameters::split(url);
    tls.or(&defaults.tls);
    let mut config = match Config::from_str(&rest) {
        Ok(config) => config,
        Err(error) => {
            let shape = "write postgres://user:password@host:port/database, and %-codes for special characters";
            return refused(&match wrong_option(&error) {
                Some(option) => format!("has an invalid {option}"),
                None if after_scheme.is_some_and(has_ours) => {
                    "has settings of the router in it: these are for RouterBuilder::from_url, for all nodes".to_owned()
                }
                None => format!("cannot be read: {shape}"),
            });
        }
    };
    let host = match config.get_hosts() {
        [Host::Tcp(host)] => host.clone(),
        #[cfg(unix)]
        [Host::Unix(path)] => path.display().to_string(),
        [] => return refused("names no host"),
        several => {
            let count = several.len();
            return refused(&format!(
                "names {count} hosts: give each node a URL, or all of them to RouterBuilder::from_url"
            ));
        }
    };
    let port = config.get_ports().first().copied().unwrap_or(DEFAULT_PORT);
    defaults.apply(&mut config);
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(connect_timeout);
    }
    if config.get_application_name().is_none() {
        config.application_name("mainstem");
    }
    // The driver's default of two hours would be of no use, and the driver does not reveal whether it was set.
    if !rest.contains("keepalives_idle") {
        config.keepalives_idle(KEEPALIVES_IDLE);
    }
    if !rest.contains("keepalives_interval") {
        config.keepalives_interval(KEEPALIVES_INTERVAL);
    }
    if !rest.contains("keepalives_retries") {
        config.keepalives_retries(KEEPALIVES_RETRIES);
    }
    Ok(NodeUrl { name: format!("{host}:{port}"), config, tls })
}

/// The connect timeout in a URL, or the default if it has none.
pub(in crate::router) fn connect_timeout(url: &str, defaults: &Defaults) -> Option<Duration> {
    let (rest, _) = TlsParameters::split(url);
    // Mistakes in it are reported when it is parsed.
    let own = Config::from_str(&rest).ok().and_then(|config| config.get_connect_timeout().copied());
    own.or(defaults.connect_timeout)
}

/// The part after `postgres://`.
pub(in crate::router) fn after_scheme(url: &str) -> Option<&str> {
    ["postgres://", "postgresql://"].iter().find_map(|scheme| url.strip_prefix(scheme))
}

/// The driver takes the first @ for the end of the password, and the rest of the password for the host, which errors
/// name.
pub(in crate::router) fn has_stray_at(after_scheme: &str) -> bool {
    after_scheme.split('?').next().unwrap_or(after_scheme).matches('@').count() > 1
}

/// Whether a URL parameter is meant for the router.
pub(in crate::router) fn is_ours(name: &str) -> bool {
    name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("mainstem"))
}

fn has_ours(after_scheme: &str) -> bool {
    let query = after_scheme.rsplit('?').next().unwrap_or_default();
    query.split('&').any(is_ours)
}

impl Defaults {
    /// Sets what the URL does not specify.
    fn apply(&self, config: &mut Config) {
        if let Some(user) = self.user.as_ref().filter(|_| config.get_user().is_none()) {
            config.user(user);
        }
        if let Some(password) = self.password.as_ref().filter(|_| config.get_password().is_none()) {
            config.password(password);
        }
        if let Some(database) = self.database.as_ref().filter(|_| config.get_dbname().is_none()) {
            config.dbname(database);
        }
        if let Some(name) = self.application_name.as_ref().filter(|_| config.get_application_name().is_none()) {
            config.application_name(name);
        }
        if let Some(options) = self.options.as_ref().filter(|_| config.get_options().is_none()) {
            config.options(options);
        }
        if let Some(limit) = self.connect_timeout.filter(|_| config.get_connect_timeout().is_none()) {
            config.connect_timeout(limit);
        }
    }
}

/// Keeps idle pool connections alive in firewalls, the stricter of which forget a connection after some minutes of
/// silence, and closes connections whose peer is gone within a minute and a half.
const KEEPALIVES_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVES_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVES_RETRIES: u32 = 3;

impl NodeUrl {
    /// The driver's settings while the node has this role. A pooler refuses session settings that it does not know.
    pub(in crate::router) fn config(&self, role: Role, is_pooled: bool) -> Config {
        let mut config = self.config.clone();
        if is_pooled {
            return config;
        }
        let given = config.get_options().unwrap_or_default();
        let mut options = given.to_owned();
        if !given.contains("jit") {
            // Compilation pays off for reports, not for the short statements that a pool is for: a search that the
            // planner misjudges by some orders of magnitude takes 30 ms longer, and one with thousands of conditions
            // never ends.
            options.push_str(" -c jit=off");
        }
        // Whatever is given: above this limit, an index on tags or payloads leaves out what it likes of what it finds.
        options.push_str(" -c gin_fuzzy_search_limit=0");
        if role == Role::Replica {
            // A standby refuses writes itself, until it is promoted: then this setting does.
            options.push_str(" -c default_transaction_read_only=on");
        }
        config.options(options.trim_start());
        config
    }
}

/// The option whose value the driver rejects, if the driver knows that option: anything else may be a part of the
/// password that was taken for an option.
fn wrong_option(error: &tokio_postgres::Error) -> Option<&'static str> {
    let text = std::error::Error::source(error)?.to_string();
    let known = [
        "port",
        "connect_timeout",
        "sslnegotiation",
        "target_session_attrs",
        "channel_binding",
        "keepalives",
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_retries",
    ];
    known.into_iter().find(|option| text == format!("invalid value for option `{option}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_read_only_besides_its_own_options() {
        let url = "postgres://localhost/shop?options=-c%20work_mem%3D1MB";
        let parsed = parse(url, "it", Duration::from_secs(1), &Defaults::default()).unwrap();
        assert_eq!(parsed.name, "localhost:5432");
        let read_only = "-c work_mem=1MB -c jit=off -c gin_fuzzy_search_limit=0 -c default_transaction_read_only=on";
        assert_eq!(parsed.config(Role::Replica, false).get_options(), Some(read_only));
        assert_eq!(
            parsed.config(Role::Primary, false).get_options(),
            Some("-c work_mem=1MB -c jit=off -c gin_fuzzy_search_limit=0")
        );
        let url = "postgres://localhost/shop?options=-c%20jit%3Don";
        let parsed = parse(url, "it", Duration::from_secs(1), &Defaults::default()).unwrap();
        assert_eq!(parsed.config(Role::Primary, false).get_options(), Some("-c jit=on -c gin_fuzzy_search_limit=0"));
        let parsed = parse("postgres://localhost/shop", "it", Duration::from_secs(1), &Defaults::default()).unwrap();
        assert_eq!(parsed.config(Role::Replica, true).get_options(), None);
    }

    #[test]
    fn idle_connections_are_kept_alive_more_often_than_the_driver_would() {
        let config = |options: &str| {
            let url = format!("postgres://localhost/shop{options}");
            let parsed = parse(&url, "it", Duration::from_secs(1), &Defaults::default()).unwrap();
            let config = parsed.config(Role::Primary, false);
            let (interval, retries) = (config.get_keepalives_interval(), config.get_keepalives_retries());
            assert!(config.get_keepalives());
            (config.get_keepalives_idle().as_secs(), interval.map(|time| time.as_secs()), retries)
        };
        assert_eq!(config(""), (60, Some(10), Some(3)));
        let given = "?keepalives_idle=30&keepalives_interval=5&keepalives_retries=9";
        assert_eq!(config(given), (30, Some(5), Some(9)));
        assert_eq!(config("?keepalives_idle=7200").0, 7200);
    }
}
