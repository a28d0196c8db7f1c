//! The settings in the environment.

use std::{collections::BTreeMap, env, ffi::OsString, time::Duration};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{SETTINGS, unknown};
use crate::{
    error::{Error, Result},
    router::{RouterBuilder, config::url::Defaults},
};

/// The prefix of our variables.
pub(super) const PREFIX: &str = "MAINSTEM_";

const URL: &str = "MAINSTEM_URL";
const PRIMARY: &str = "MAINSTEM_PRIMARY_URL";
const REPLICAS: &str = "MAINSTEM_REPLICA_URLS";

/// The variables that name nodes.
const NODES: [&str; 5] = [URL, PRIMARY, REPLICAS, "PGHOST", "PGPORT"];

/// Variables with our prefix that are not the router's: those of the scripts, the containers and the tests of this
/// crate, and those that Kubernetes creates for a service called `mainstem`.
const OF_OTHERS: [&str; 22] = [
    "MAINSTEM_ADVISORIES",
    "MAINSTEM_COLLECTOR_",
    "MAINSTEM_GRAFANA_",
    "MAINSTEM_JAEGER_",
    "MAINSTEM_MSRV_",
    "MAINSTEM_OTLP_",
    "MAINSTEM_PROMETHEUS_",
    "MAINSTEM_VALGRIND",
    "MAINSTEM_PG_",
    "MAINSTEM_PGBOUNCER",
    "MAINSTEM_CACHE",
    "MAINSTEM_CHECK_",
    "MAINSTEM_FOLDER",
    "MAINSTEM_PASSWORD",
    "MAINSTEM_POSTGRES_",
    "MAINSTEM_PRIMARY_PORT",
    "MAINSTEM_REPLICA_1_",
    "MAINSTEM_REPLICA_2_",
    "MAINSTEM_REPLICATOR_",
    "MAINSTEM_SIMULATOR_",
    "MAINSTEM_TEST_",
    "MAINSTEM_SERVICE_",
];

/// The variables of libpq that supply what URLs leave out, except those of TLS.
const LIBPQ: [&str; 8] =
    ["PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGAPPNAME", "PGOPTIONS", "PGCONNECT_TIMEOUT"];
const LIBPQ_TLS: [(&str, &str); 4] =
    [("PGSSLMODE", "sslmode"), ("PGSSLROOTCERT", "sslrootcert"), ("PGSSLCERT", "sslcert"), ("PGSSLKEY", "sslkey")];

/// Those of libpq, without `allow`: encryption only on demand protects from nobody.
const SSL_MODES: [&str; 5] = ["disable", "prefer", "require", "verify-ca", "verify-full"];

impl RouterBuilder {
    /// Reads the settings from the environment of this process.
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `MAINSTEM_URL` | all nodes in one URL, as for [`from_url`](Self::from_url) |
    /// | `MAINSTEM_PRIMARY_URL`, `MAINSTEM_REPLICA_URLS` | alternatively, the [primary](Self::primary) and its [replicas](Self::replicas), one URL each, separated by commas |
    /// | `MAINSTEM_` and the name of a setting in capitals | that setting; it takes precedence over the same setting in the URL. The [table](Self#all-settings) lists all of them |
    /// | `PGHOST`, `PGPORT` | the nodes, if none of the URLs above is set: hosts separated by commas, and one port for all or one for each |
    /// | `PGUSER`, `PGPASSWORD`, `PGDATABASE`, `PGAPPNAME`, `PGOPTIONS`, `PGCONNECT_TIMEOUT` (seconds; see [`connect_timeout`](Self::connect_timeout)), `PGSSLMODE`, `PGSSLROOTCERT`, `PGSSLCERT`, `PGSSLKEY` | what the URLs leave out, as with libpq |
    ///
    /// An empty variable counts as not set. Other variables of libpq are ignored, and so is a password file. Unknown
    /// variables that begin with `MAINSTEM_` are errors, so that a typo does not silently become a default. Exempt are
    /// those that Kubernetes creates for a service called `mainstem`, and those that this crate's own scripts,
    /// containers and tests use.
    ///
    /// Settings made on the builder afterwards take precedence, including those for TLS.
    ///
    /// ```no_run
    /// # async fn run() -> mainstem::Result<()> {
    /// use std::time::Duration;
    ///
    /// let router = mainstem::RouterBuilder::from_env()?.call_timeout(Duration::from_secs(5)).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) names the variable and its valid values: if it has
    /// any other value, is unknown or is not Unicode; if no variable names the nodes, or two do.
    pub fn from_env() -> Result<Self> {
        Self::from_vars(environment()?)
    }

    /// Reads the settings from these variables, as [`from_env`](Self::from_env) does: for variables from another
    /// source.
    ///
    /// ```
    /// use mainstem::RouterBuilder;
    ///
    /// let builder = RouterBuilder::from_vars([
    ///     ("MAINSTEM_URL", "postgres://app@db1,db2/shop?sslmode=disable"),
    ///     ("MAINSTEM_MAX_CONNECTIONS", "20"),
    ///     ("PGPASSWORD", "secret"),
    /// ])?;
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env).
    pub fn from_vars<N, V>(vars: impl IntoIterator<Item = (N, V)>) -> Result<Self>
    where
        N: Into<String>,
        V: Into<String>,
    {
        let mut vars = looked_at(vars);
        let builder = nodes(&mut vars)?;
        builder.settings_in(vars)
    }

    /// Adds the settings from the environment, except the nodes: for a program that receives its nodes in another way,
    /// such as a command-line option.
    ///
    /// Variables that name nodes (`MAINSTEM_URL`, `MAINSTEM_PRIMARY_URL`, `MAINSTEM_REPLICA_URLS`, `PGHOST`, `PGPORT`)
    /// are ignored. All others have the same meaning as for [`from_env`](Self::from_env): settings take precedence over
    /// those in a URL list, and settings made on the builder afterwards take precedence over them; `PGPASSWORD` and its
    /// like supply what the URLs leave out.
    ///
    /// ```no_run
    /// # async fn run(option: Option<&str>) -> mainstem::Result<()> {
    /// use mainstem::RouterBuilder;
    ///
    /// let builder = match option {
    ///     Some(url) => RouterBuilder::from_url(url)?.with_env()?,
    ///     None => RouterBuilder::from_env()?,
    /// };
    /// let router = builder.connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env), except for the errors about nodes.
    pub fn with_env(self) -> Result<Self> {
        self.with_vars(environment()?)
    }

    /// Adds the settings from these variables, except the nodes; see [`with_env`](Self::with_env) and
    /// [`from_vars`](Self::from_vars).
    ///
    /// # Errors
    ///
    /// As [`with_env`](Self::with_env).
    pub fn with_vars<N, V>(self, vars: impl IntoIterator<Item = (N, V)>) -> Result<Self>
    where
        N: Into<String>,
        V: Into<String>,
    {
        let mut vars = looked_at(vars);
        vars.retain(|name, _| !NODES.contains(&&**name));
        self.settings_in(vars)
    }

    /// Applies these variables, none of which names nodes.
    fn settings_in(mut self, mut vars: BTreeMap<String, String>) -> Result<Self> {
        self.defaults = defaults(&mut vars)?;
        for setting in &SETTINGS {
            let variable = setting.variable();
            if let Some(value) = vars.remove(&variable) {
                self = setting.set(self, &value, &format!("the variable {variable}"))?;
            }
        }
        match vars.keys().find(|name| name.starts_with(PREFIX)) {
            Some(name) => {
                let urls = [URL, PRIMARY, REPLICAS].into_iter().map(str::to_owned);
                let known = urls.chain(SETTINGS.iter().map(super::Setting::variable));
                Err(unknown("the variable", name, known))
            }
            None => Ok(self),
        }
    }
}

/// The variables of this process that are Unicode; an error if one with a meaning here is not.
fn environment() -> Result<Vec<(String, String)>> {
    let text = |(name, value): (OsString, OsString)| match (name.into_string(), value.into_string()) {
        (Ok(name), Ok(value)) => Some(Ok((name, value))),
        (Ok(name), Err(_)) if is_looked_at(&name) => {
            Some(Err(Error::configuration(format!("the variable {name} is not Unicode"))))
        }
        _ => None,
    };
    env::vars_os().filter_map(text).collect()
}

/// The variables that have, or should have, a meaning here and are not empty.
fn looked_at<N: Into<String>, V: Into<String>>(vars: impl IntoIterator<Item = (N, V)>) -> BTreeMap<String, String> {
    let vars = vars.into_iter().map(|(name, value)| (name.into(), value.into()));
    vars.filter(|(name, value): &(String, String)| is_looked_at(name) && !value.trim().is_empty()).collect()
}

/// Whether it has, or should have, a meaning here.
fn is_looked_at(name: &str) -> bool {
    let is_port = name == "MAINSTEM_PORT" || name.starts_with("MAINSTEM_PORT_");
    let is_ours = name.starts_with(PREFIX) && !is_port && !OF_OTHERS.iter().any(|others| name.starts_with(others));
    is_ours || LIBPQ.contains(&name) || LIBPQ_TLS.iter().any(|(variable, _)| *variable == name)
}

/// A builder with the nodes that the variables name.
fn nodes(vars: &mut BTreeMap<String, String>) -> Result<RouterBuilder> {
    let within = |variable: &'static str| move |error: Error| error.within(&format!("the variable {variable}"));
    let (host, port) = (vars.remove("PGHOST"), vars.remove("PGPORT"));
    match (vars.remove(URL), vars.remove(PRIMARY), vars.remove(REPLICAS), host) {
        (Some(_), Some(_), ..) | (Some(_), _, Some(_), _) => Err(Error::configuration(format!(
            "{URL} names all nodes, and {PRIMARY} and {REPLICAS} name them by their roles: set one or the other"
        ))),
        (Some(list), None, None, _) => RouterBuilder::from_url(list.trim()).map_err(within(URL)),
        (None, None, Some(_), _) => {
            Err(Error::configuration(format!("{REPLICAS} is set, and {PRIMARY} is not: set both, or {URL}")))
        }
        (None, Some(primary), replicas, _) => {
            let replicas = replicas.as_deref().unwrap_or_default();
            let replicas = replicas.split(',').map(str::trim).filter(|url| !url.is_empty());
            Ok(RouterBuilder::default().primary(primary.trim()).replicas(replicas))
        }
        (None, None, None, Some(hosts)) => RouterBuilder::from_url(list_of(&hosts, port.as_deref())?),
        (None, None, None, None) => Err(Error::configuration(format!(
            "no variable names the nodes: set {URL} to postgres://user@host1,host2/database, or PGHOST to the hosts"
        ))),
    }
}

/// The URL of these hosts.
fn list_of(hosts: &str, ports: Option<&str>) -> Result<String> {
    let hosts: Vec<&str> = hosts.split(',').map(str::trim).collect();
    let ports: Vec<&str> = ports.unwrap_or("5432").split(',').map(str::trim).collect();
    if ports.iter().any(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Err(Error::configuration("the variable PGPORT has another value than ports from 1 to 65535"));
    }
    if ports.len() != 1 && ports.len() != hosts.len() {
        let (ports, hosts) = (ports.len(), hosts.len());
        let message =
            format!("the variable PGPORT has {ports} ports for {hosts} hosts: give one for all, or one for each");
        return Err(Error::configuration(message));
    }
    let nodes: Vec<String> = hosts
        .iter()
        .zip(ports.iter().cycle())
        .map(|(host, port)| match host.contains(':') {
            true => format!("[{host}]:{port}"),
            // The directory of a socket contains slashes.
            false => format!("{}:{port}", utf8_percent_encode(host, NON_ALPHANUMERIC)),
        })
        .collect();
    if hosts.contains(&"") {
        return Err(Error::configuration("the variable PGHOST has a comma too many between its hosts"));
    }
    Ok(format!("postgres://{}", nodes.join(",")))
}

fn defaults(vars: &mut BTreeMap<String, String>) -> Result<Defaults> {
    let connect_timeout = match vars.remove("PGCONNECT_TIMEOUT") {
        Some(text) => match text.trim().parse() {
            Ok(seconds @ 1..) => Some(Duration::from_secs(seconds)),
            _ => {
                let message =
                    "the variable PGCONNECT_TIMEOUT has another value than a whole number of seconds from 1 on";
                return Err(Error::configuration(message));
            }
        },
        None => None,
    };
    let mut defaults = Defaults {
        user: vars.remove("PGUSER"),
        password: vars.remove("PGPASSWORD"),
        database: vars.remove("PGDATABASE"),
        application_name: vars.remove("PGAPPNAME"),
        options: vars.remove("PGOPTIONS"),
        connect_timeout,
        ..Defaults::default()
    };
    if vars.get("PGSSLMODE").is_some_and(|mode| !SSL_MODES.contains(&&**mode)) {
        let modes = SSL_MODES.join(", ");
        return Err(Error::configuration(format!("the variable PGSSLMODE has another value than one of {modes}")));
    }
    for (variable, name) in LIBPQ_TLS {
        if let Some(value) = vars.remove(variable) {
            defaults.tls.take(name, &value);
        }
    }
    Ok(defaults)
}
