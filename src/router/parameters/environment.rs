//! The settings in the environment.

use std::{collections::BTreeMap, env, ffi::OsString, time::Duration};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{SETTINGS, unknown};
use crate::{
    error::{Error, Result},
    router::{RouterBuilder, url::Defaults},
};

/// What variables of ours begin with.
pub(super) const PREFIX: &str = "MAINSTEM_";

const URL: &str = "MAINSTEM_URL";
const PRIMARY: &str = "MAINSTEM_PRIMARY_URL";
const REPLICAS: &str = "MAINSTEM_REPLICA_URLS";

/// Those that name nodes.
const NODES: [&str; 5] = [URL, PRIMARY, REPLICAS, "PGHOST", "PGPORT"];

/// Variables of this name that are not the router's: those of the scripts, the containers and the tests of this crate, and those
/// that Kubernetes makes of a service that is called `mainstem`.
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

/// The variables of libpq that say what URLs leave out, besides those of TLS.
const LIBPQ: [&str; 8] =
    ["PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGAPPNAME", "PGOPTIONS", "PGCONNECT_TIMEOUT"];
const LIBPQ_TLS: [(&str, &str); 4] =
    [("PGSSLMODE", "sslmode"), ("PGSSLROOTCERT", "sslrootcert"), ("PGSSLCERT", "sslcert"), ("PGSSLKEY", "sslkey")];

/// Those of libpq, but `allow`: to encrypt only on demand protects from nobody.
const SSL_MODES: [&str; 5] = ["disable", "prefer", "require", "verify-ca", "verify-full"];

impl RouterBuilder {
    /// The settings in the environment of this process.
    ///
    /// | variable | what it says |
    /// |---|---|
    /// | `MAINSTEM_URL` | all nodes in one URL, as [`from_url`](Self::from_url) has it |
    /// | `MAINSTEM_PRIMARY_URL`, `MAINSTEM_REPLICA_URLS` | instead, the [primary](Self::primary), and its [replicas](Self::replicas), a URL for each, separated by commas |
    /// | `MAINSTEM_` and the name of a setting in capitals | that setting; it counts more than the same in the URL. All are in the [table](Self#all-settings) |
    /// | `PGHOST`, `PGPORT` | the nodes, when none of the URLs above is there: hosts separated by commas, and one port for all or one for each |
    /// | `PGUSER`, `PGPASSWORD`, `PGDATABASE`, `PGAPPNAME`, `PGOPTIONS`, `PGCONNECT_TIMEOUT` (seconds; see [`connect_timeout`](Self::connect_timeout)), `PGSSLMODE`, `PGSSLROOTCERT`, `PGSSLCERT`, `PGSSLKEY` | what the URLs leave out, as with libpq |
    ///
    /// A variable that is empty is not set. Other variables of libpq are not looked at, a password file neither. Unknown ones that
    /// begin with `MAINSTEM_` are errors, so that a slip of the pen is not a default; what Kubernetes makes of a service called
    /// `mainstem` is left alone, and so is what this crate's own scripts, containers and tests use.
    ///
    /// What is set on the builder afterwards counts more, that of TLS as well.
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
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) names the variable, and what its values are: when it has another one,
    /// is unknown, or is not Unicode; when no variable names the nodes, or two do.
    pub fn from_env() -> Result<Self> {
        Self::from_vars(environment()?)
    }

    /// The settings in these variables, as [`from_env`](Self::from_env) reads them: for those that come from somewhere else.
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

    /// Adds what the environment says besides the nodes, for a program that is told these in another way: by an option of its command
    /// line, say.
    ///
    /// Variables that name nodes (`MAINSTEM_URL`, `MAINSTEM_PRIMARY_URL`, `MAINSTEM_REPLICA_URLS`, `PGHOST`, `PGPORT`) are not looked at.
    /// All the others mean what they mean to [`from_env`](Self::from_env): settings count more than those in a URL list, and what
    /// is set on the builder afterwards counts more than they do; `PGPASSWORD` and its like say what the URLs leave out.
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
    /// As [`from_env`](Self::from_env), but for what it says of nodes.
    pub fn with_env(self) -> Result<Self> {
        self.with_vars(environment()?)
    }

    /// The same of these variables, as [`from_vars`](Self::from_vars) takes them.
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

    /// Takes what these variables say, none of which names nodes.
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

/// The variables of this process that are Unicode; an error if one that means something here is not.
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

/// Those that mean something here, or should, and are not empty.
fn looked_at<N: Into<String>, V: Into<String>>(vars: impl IntoIterator<Item = (N, V)>) -> BTreeMap<String, String> {
    let vars = vars.into_iter().map(|(name, value)| (name.into(), value.into()));
    vars.filter(|(name, value): &(String, String)| is_looked_at(name) && !value.trim().is_empty()).collect()
}

/// Whether it means anything here, or should.
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
            // The folder of a socket has slashes.
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
