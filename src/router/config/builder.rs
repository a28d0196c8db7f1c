//! The router's settings.

use std::{fmt, time::Duration};

#[cfg(feature = "rustls")]
use super::tls;
use super::{
    check,
    settings::{ReplicaOptions, Routing},
    source::Source,
    url::Defaults,
};
use crate::{
    error::{Error, Result},
    router::{
        Role, Router,
        nodes::discovery::DiscoverySettings,
        pool::{
            borrowed::ExistingPool,
            connection::SessionSettings,
            upkeep::{self, Upkeep},
        },
    },
};

/// Collects the settings of a [`Router`]; every default is safe. They can also be read from [one URL](Self::from_url)
/// or from the [environment](Self::from_env).
///
/// ```no_run
/// # async fn run() -> mainstem::Result<()> {
/// use std::time::Duration;
///
/// let router = mainstem::Router::builder()
///     .primary("postgres://app:secret@10.0.0.1/shop")
///     .replicas(["postgres://app:secret@10.0.0.2/shop", "postgres://app:secret@10.0.0.3/shop"])
///     .max_connections(20)
///     .acquire_timeout(Duration::from_secs(2))
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
///
/// # All settings
///
#[doc = include_str!("parameters/settings.md")]
#[must_use = "a builder does nothing until `connect` or `build`"]
pub struct RouterBuilder {
    pub(in crate::router) sources: Vec<Listed>,
    /// What applies where the URLs leave something out.
    pub(in crate::router) defaults: Defaults,
    pub(in crate::router) max_connections: u32,
    pub(in crate::router) waiting_calls: u32,
    pub(in crate::router) session: SessionSettings,
    pub(in crate::router) upkeep: Upkeep,
    pub(in crate::router) require_replicas: bool,
    pub(in crate::router) limits: Limits,
    /// Whether the connect timeout was set on the builder: if so, no URL makes it longer.
    pub(in crate::router) has_connect_timeout: bool,
    pub(in crate::router) routing: Routing,
    pub(in crate::router) discovery: DiscoverySettings,
    /// The first invalid setting.
    pub(in crate::router) mistake: Option<Error>,
    #[cfg(feature = "rustls")]
    pub(in crate::router) tls: tls::TlsOptions,
}

/// A node as the settings list it.
pub(in crate::router) struct Listed {
    /// `None` if the node has to be asked for it.
    pub(in crate::router) role: Option<Role>,
    pub(in crate::router) source: Source,
    pub(in crate::router) options: ReplicaOptions,
}

/// The time limits.
#[derive(Clone, Copy, Debug)]
pub(in crate::router) struct Limits {
    pub(in crate::router) acquire_timeout: Duration,
    pub(in crate::router) call_timeout: Duration,
    pub(in crate::router) connect_timeout: Duration,
    pub(in crate::router) replay_wait: Duration,
    pub(in crate::router) fallback_wait: Duration,
}

impl Default for RouterBuilder {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            defaults: Defaults::default(),
            max_connections: 10,
            waiting_calls: 8192,
            session: SessionSettings { statements: 100, is_pooled: false },
            upkeep: Upkeep::default(),
            require_replicas: false,
            limits: Limits {
                acquire_timeout: Duration::from_secs(5),
                call_timeout: Duration::from_secs(30),
                connect_timeout: Duration::from_secs(2),
                replay_wait: Duration::ZERO,
                fallback_wait: Duration::ZERO,
            },
            has_connect_timeout: false,
            routing: Routing::default(),
            discovery: DiscoverySettings::default(),
            mistake: None,
            #[cfg(feature = "rustls")]
            tls: tls::TlsOptions::new(),
        }
    }
}

impl RouterBuilder {
    /// Sets the primary, as a URL or a libpq-style `key=value` string. It names one host: list replicas one by one.
    ///
    /// Encryption needs the feature `rustls`, with which it is the default for nodes on other machines: see `TlsMode`.
    /// Without the feature, [`build`](Self::build) refuses a URL with `sslmode=require` or more. It also refuses one
    /// without `sslmode` whose host, or `hostaddr`, is neither `localhost`, a loopback address nor the directory of a
    /// Unix socket: write `sslmode=disable` if such a connection may be in plaintext.
    ///
    /// Unless its `options` mention `jit`, connections have `jit = off`: compilation does not pay off for short
    /// statements. They always have `gin_fuzzy_search_limit = 0`: above that limit the server leaves out of long results
    /// what it likes.
    ///
    /// For a URL that names all nodes, use [`from_url`](Self::from_url).
    pub fn primary(self, url: impl Into<String>) -> Self {
        self.list(Role::Primary, Source::Url(url.into()), ReplicaOptions::new())
    }

    /// Adds a streaming replica of the primary. Call it once for each.
    pub fn replica(self, url: impl Into<String>) -> Self {
        self.replica_with(url, ReplicaOptions::new())
    }

    /// Adds a streaming replica of the primary with its own weight or zone.
    pub fn replica_with(self, url: impl Into<String>, options: ReplicaOptions) -> Self {
        self.list(Role::Replica, Source::Url(url.into()), options)
    }

    /// Adds several streaming replicas.
    pub fn replicas<I>(self, urls: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        urls.into_iter().fold(self, Self::replica)
    }

    /// Uses an existing pool as the primary: with the feature `bb8` a `bb8_postgres` pool, with the feature `deadpool`
    /// a `deadpool_postgres` pool.
    ///
    /// The router uses the pool as it is and [guarantees less](ExistingPool) there than on its own connections.
    pub fn primary_pool(self, pool: impl Into<ExistingPool>) -> Self {
        self.list(Role::Primary, Source::Pool(pool.into()), ReplicaOptions::new())
    }

    /// Adds an existing pool as a replica; see [`primary_pool`](Self::primary_pool).
    pub fn replica_pool(self, pool: impl Into<ExistingPool>) -> Self {
        self.list(Role::Replica, Source::Pool(pool.into()), ReplicaOptions::new())
    }

    fn list(mut self, role: Role, source: Source, options: ReplicaOptions) -> Self {
        self.sources.push(Listed { role: Some(role), source, options });
        self
    }

    /// Limits the connections to each node. Defaults to 10, as in bb8.
    ///
    /// Too few, and calls queue in the application. Too many, and they queue inside the server, where each also costs
    /// memory and a process. The sum over all instances of the application must stay below the server's
    /// `max_connections`.
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections;
        self
    }

    /// Limits how long opening one connection may take, from the first packet to the end of the login. Defaults to 2 s,
    /// or to the longest `connect_timeout` of the URLs if that is longer. (A shorter one in a URL applies to each
    /// address of its node, as in libpq.)
    ///
    /// The same limit applies to how long one node may keep a call waiting while another node can be tried, and to how
    /// long a [probe](Self::probe_interval) may take. Too short, and a distant or busy server counts as down; too long,
    /// and a silent one delays calls.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.limits.connect_timeout = limit;
        self.has_connect_timeout = true;
        self
    }

    /// Limits how long a call may wait for a connection, over all nodes. Defaults to 5 s.
    ///
    /// Too short, and a burst turns into errors; too long, and callers wait for results that their own users no longer
    /// want.
    pub fn acquire_timeout(mut self, limit: Duration) -> Self {
        self.limits.acquire_timeout = limit;
        self
    }

    /// Limits how many calls may wait for a connection, for each node. Defaults to 8192.
    ///
    /// One more call is refused at once ([`Overloaded`](crate::ErrorKind::Overloaded)), unless it is a read that
    /// another node can serve. The router does not see the queue of an [existing pool](ExistingPool). The library's own
    /// calls, such as probes and heartbeats of consumers, are neither counted nor refused.
    ///
    /// Too few, and a burst turns into errors. Too many, and once the servers do not keep up, callers wait for the
    /// whole [acquire timeout](Self::acquire_timeout), in this process's memory, only to be refused then.
    pub fn waiting_calls(mut self, calls: u32) -> Self {
        self.waiting_calls = calls;
        self
    }

    /// Limits how long one call may take, including the wait for a connection where the call acquires it itself.
    /// Defaults to 30 s.
    ///
    /// Too short, and slow reads fail and cost a connection each; too long, and a server that stopped answering keeps
    /// its callers waiting for that long.
    pub fn call_timeout(mut self, limit: Duration) -> Self {
        self.limits.call_timeout = limit;
        self
    }

    /// Limits the prepared statements that each connection keeps. Defaults to 100; 0 keeps none.
    ///
    /// Too few, and calls pay a second round trip to prepare; too many, and each connection holds their plans in the
    /// server's memory, about 10 to 100 kB each.
    pub fn statement_cache_capacity(mut self, statements: usize) -> Self {
        self.session.statements = statements;
        self
    }

    /// Declares that the URLs lead to PgBouncer in transaction mode, or to another pooler that gives each transaction a
    /// different server session. Defaults to `false`.
    ///
    /// With `true`, the router leaves nothing in a session. Statements are unnamed, each in one message (and one more
    /// for the types of its parameters, once per connection). No setting is changed, and after raw use only an open
    /// transaction is rolled back. What is lost:
    ///
    /// - A cancelled statement may run on: PgBouncer 1.18 drops a cancel request whose sender has closed the
    ///   connection, as the driver does. Give the role a `statement_timeout`.
    /// - Statements are planned for each call.
    /// - The node's role is known from [probes](Self::probe_interval) only.
    /// - A replica's connection is read-only because the standby is, so no longer once it is promoted.
    /// - `SET`, `LISTEN` and session-level advisory locks of your own SQL affect others.
    /// - `COPY` is refused.
    /// - Subscriptions poll for new events every 20 ms, since they receive no notifications.
    /// - Migrations and index builds need a session and are refused: run them through a router with the server's own
    ///   URL.
    ///
    /// Give each node its own entry in the pooler, so that a name always means the same server.
    ///
    /// If this is `false` in front of such a pooler, connecting or the first statement fails with the pooler's own
    /// error. For session mode leave it `false`, and let the pooler ignore the start-up parameter `options`.
    pub fn transaction_pooling(mut self, is_pooled: bool) -> Self {
        self.session.is_pooled = is_pooled;
        self
    }

    /// Makes [`connect`](Self::connect) fail if a replica cannot be reached. Defaults to `false`: a replica's outage
    /// must not keep the application from starting. It is logged, and the replica is used as soon as it answers.
    ///
    /// A node that answers but is not a replica, or that refuses the login, is an error in any case.
    pub fn require_replicas(mut self, require: bool) -> Self {
        self.require_replicas = require;
        self
    }

    /// Sets the encryption of connections to nodes whose URL does not specify it. Defaults to [verified
    /// encryption](tls::TlsMode) for nodes that are not on this machine.
    #[cfg(feature = "rustls")]
    pub fn tls(mut self, options: tls::TlsOptions) -> Self {
        self.tls = options;
        self
    }

    /// Builds the router and checks that every node is what the settings say: it accepts the login, runs PostgreSQL 15
    /// or newer, has the expected role, and belongs to the same cluster as the others. Of the nodes of a [URL
    /// list](Self::from_url) one must be a primary.
    ///
    /// The settings may be older than the last failover. With [probes](Self::probe_interval), the roles may therefore
    /// have changed as long as one of the nodes is the primary now, and the old primary may be absent.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) if a setting is wrong or a node is not what it
    /// should be, [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the primary (or with
    /// [`require_replicas`](Self::require_replicas) a replica) cannot be reached.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connections it opened.
    pub async fn connect(self) -> Result<Router> {
        let require_replicas = self.require_replicas;
        let router = self.assemble()?;
        for outcome in router.look_up_names().await {
            if let Err(error) = outcome
                && require_replicas
            {
                return Err(error);
            }
        }
        check::nodes(&router, require_replicas).await?;
        upkeep::warm_up(&router.inner.nodes.all(), router.inner.limits.acquire_timeout).await;
        router.start();
        Ok(router)
    }

    /// Builds the router without contacting any node: the first calls and probes open the connections.
    ///
    /// The primary in the settings may have been replaced while the application was down. With
    /// [probes](Self::probe_interval), the first strong calls and [bounded](crate::Consistency::Bounded) reads
    /// therefore wait until every node has been probed once: a few milliseconds, or up to the [connect
    /// timeout](Self::connect_timeout) if a node does not answer. After that, the silent node is disregarded. Use
    /// [`connect`](Self::connect) to have the nodes checked as well.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) if a setting is wrong, and outside of a tokio
    /// runtime.
    pub fn build(self) -> Result<Router> {
        let router = self.assemble()?;
        router.start();
        Ok(router)
    }
}

/// Leaves out the URLs: they contain passwords.
impl fmt::Debug for RouterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouterBuilder")
            .field("roles", &self.sources.iter().map(|listed| listed.role).collect::<Vec<_>>())
            .field("max_connections", &self.max_connections)
            .field("waiting_calls", &self.waiting_calls)
            .field("session", &self.session)
            .field("upkeep", &self.upkeep)
            .field("require_replicas", &self.require_replicas)
            .field("limits", &self.limits)
            .field("routing", &self.routing)
            .field("discovery", &self.discovery)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn configuration_error(builder: RouterBuilder) -> String {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(!error.report().contains("secret"), "{}", error.report());
        error.report()
    }

    const PRIMARY: &str = "postgres://app:secret@localhost:1/shop";
    const REPLICA: &str = "postgres://app:secret@localhost:2/shop";

    #[tokio::test]
    async fn wrong_settings_are_refused_with_what_is_wrong() {
        let cases = [
            (Router::builder(), "settings name 0"),
            (Router::builder().primary(PRIMARY).primary(PRIMARY), "settings name 2"),
            (Router::builder().primary("postgres://app:secret@/shop"), "no host"),
            (Router::builder().primary("postgres://app:secret@a,b/shop"), "2 hosts"),
            (Router::builder().primary("postgres://app:secret@host:port/shop"), "invalid port"),
            (Router::builder().primary("jdbc:postgres://app:secret@host/shop?ssl=off"), "postgres://"),
            (Router::builder().primary("password=my secret=x host=a"), "cannot be read"),
            (Router::builder().primary("postgres://app:s@secret@host/shop"), "%40"),
            (Router::builder().primary("postgres://app:s@se/secret@host/shop"), "%40"),
            (
                Router::builder().primary(PRIMARY).replica(PRIMARY).replica("postgres://a,b/x"),
                "replica 2 names 2 hosts",
            ),
            (Router::builder().primary(PRIMARY).replica(PRIMARY), "list each once"),
            (Router::builder().primary(PRIMARY).max_connections(0), "max_connections is 0"),
            (Router::builder().primary(PRIMARY).connect_timeout(Duration::ZERO), "connect_timeout is 0"),
        ];
        for (builder, part) in cases {
            let report = configuration_error(builder);
            assert!(report.contains(part), "{report:?} does not say {part:?}");
        }
    }

    #[tokio::test]
    async fn passwords_are_in_no_debug_output() {
        let builder = Router::builder().primary(PRIMARY).replica(REPLICA);
        assert!(!format!("{builder:?}").contains("secret"));
        assert!(!format!("{:?}", builder.build().unwrap()).contains("secret"));
    }
}
