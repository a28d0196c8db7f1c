//! The router's settings.

use std::{fmt, time::Duration};

#[cfg(feature = "rustls")]
use super::tls;
use super::{
    Role, Router,
    borrowed::ExistingPool,
    check,
    connection::SessionSettings,
    discovery::DiscoverySettings,
    settings::{ReplicaOptions, Routing},
    source::Source,
    upkeep::{self, Upkeep},
    url::Defaults,
};
use crate::error::{Error, Result};

/// The settings of a [`Router`]; every default is safe. They are also read from [one URL](Self::from_url) or from the
/// [environment](Self::from_env).
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
    pub(super) sources: Vec<Listed>,
    /// What the URLs leave out.
    pub(super) defaults: Defaults,
    pub(super) max_connections: u32,
    pub(super) waiting_calls: u32,
    pub(super) session: SessionSettings,
    pub(super) upkeep: Upkeep,
    pub(super) require_replicas: bool,
    pub(super) limits: Limits,
    /// Whether the builder was told the connect timeout: then no URL makes it longer.
    pub(super) has_connect_timeout: bool,
    pub(super) routing: Routing,
    pub(super) discovery: DiscoverySettings,
    /// The first thing that was wrong with what it was told.
    pub(super) mistake: Option<Error>,
    #[cfg(feature = "rustls")]
    pub(super) tls: tls::TlsOptions,
}

/// A node as the settings name it.
pub(super) struct Listed {
    /// `None` when it is to be asked.
    pub(super) role: Option<Role>,
    pub(super) source: Source,
    pub(super) options: ReplicaOptions,
}

/// The limits on time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) acquire_timeout: Duration,
    pub(super) call_timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) replay_wait: Duration,
    pub(super) fallback_wait: Duration,
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
    /// The primary, as a URL or a libpq-style `key=value` string. It names one host: list replicas one by one.
    ///
    /// Encryption needs the feature `rustls`, with which it is the default for nodes on other machines: see `TlsMode`. Without it
    /// [`build`](Self::build) refuses a URL with `sslmode=require` or more, and one without `sslmode` whose host, or `hostaddr`, is
    /// neither `localhost`, a loopback address nor the folder of a Unix socket: say `sslmode=disable` if such a connection may be in plaintext.
    ///
    /// Unless its `options` speak of `jit`, connections have `jit = off`: compiling does not pay for short statements.
    ///
    /// A URL that names all nodes is one for [`from_url`](Self::from_url).
    pub fn primary(self, url: impl Into<String>) -> Self {
        self.list(Role::Primary, Source::Url(url.into()), ReplicaOptions::new())
    }

    /// A streaming replica of that primary. Call it once for each.
    pub fn replica(self, url: impl Into<String>) -> Self {
        self.replica_with(url, ReplicaOptions::new())
    }

    /// A streaming replica of that primary with a weight or a zone of its own.
    pub fn replica_with(self, url: impl Into<String>, options: ReplicaOptions) -> Self {
        self.list(Role::Replica, Source::Url(url.into()), options)
    }

    /// Several streaming replicas.
    pub fn replicas<I>(self, urls: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        urls.into_iter().fold(self, Self::replica)
    }

    /// An existing pool as the primary: with the feature `bb8` a `bb8_postgres` pool, with the feature `deadpool` a
    /// `deadpool_postgres` pool.
    ///
    /// The router uses it as it is, and [less is guaranteed](ExistingPool) there than on connections of its own.
    pub fn primary_pool(self, pool: impl Into<ExistingPool>) -> Self {
        self.list(Role::Primary, Source::Pool(pool.into()), ReplicaOptions::new())
    }

    /// An existing pool as a replica; see [`primary_pool`](Self::primary_pool).
    pub fn replica_pool(self, pool: impl Into<ExistingPool>) -> Self {
        self.list(Role::Replica, Source::Pool(pool.into()), ReplicaOptions::new())
    }

    fn list(mut self, role: Role, source: Source, options: ReplicaOptions) -> Self {
        self.sources.push(Listed { role: Some(role), source, options });
        self
    }

    /// The most connections to each node. Defaults to 10, as bb8's own.
    ///
    /// Too few and calls queue up here; too many and they queue up inside the server, where each also costs memory
    /// and a process. The sum over all instances of the application must stay below the server's `max_connections`.
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections;
        self
    }

    /// How long opening one connection may take, from the first packet to the end of the log-in, and how long one node
    /// may keep a call waiting while another can be asked, and how long a [probe](Self::probe_interval) may take. Defaults
    /// to 2 s, or to the longest `connect_timeout` of the URLs if that is longer. (A shorter one in a URL is for each address of
    /// its node, as in libpq.)
    ///
    /// Too short and a distant or busy server counts as down; too long and a silent one holds calls up.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.limits.connect_timeout = limit;
        self.has_connect_timeout = true;
        self
    }

    /// How long a call may wait for a connection, over all nodes. Defaults to 5 s.
    ///
    /// Too short and a burst becomes errors; too long and callers wait for what their own users have given up.
    pub fn acquire_timeout(mut self, limit: Duration) -> Self {
        self.limits.acquire_timeout = limit;
        self
    }

    /// The most calls that wait for a connection, for each node. Defaults to 8192. One more is refused at once
    /// ([`Overloaded`](crate::ErrorKind::Overloaded)), and a read that another node may serve goes there. Of
    /// [pools that are handed in](ExistingPool) the router does not see the line. The library's own calls, such as probes and
    /// heartbeats of consumers, are not counted and not refused.
    ///
    /// Too few and a burst becomes errors; too many and, once the servers do not keep up, callers wait for the whole
    /// [acquire timeout](Self::acquire_timeout), in memory of this process, only to be refused then.
    pub fn waiting_calls(mut self, calls: u32) -> Self {
        self.waiting_calls = calls;
        self
    }

    /// How long one call may take, waiting for its connection included where the call gets it itself. Defaults to
    /// 30 s.
    ///
    /// Too short and slow reads fail and cost a connection each; too long and a server that stopped answering holds
    /// its callers as long.
    pub fn call_timeout(mut self, limit: Duration) -> Self {
        self.limits.call_timeout = limit;
        self
    }

    /// The most prepared statements that a connection keeps. Defaults to 100; 0 keeps none.
    ///
    /// Too few and calls pay a second round trip to prepare; too many and each connection holds their plans in the
    /// server's memory, about 10 to 100 kB each.
    pub fn statement_cache_capacity(mut self, statements: usize) -> Self {
        self.session.statements = statements;
        self
    }

    /// Whether the URLs lead to PgBouncer in transaction mode, or another pooler that gives each transaction another session of the
    /// server. Defaults to `false`.
    ///
    /// Then nothing is left in a session: statements go unnamed, each in one message (and one more for the types of its parameters,
    /// once per connection), no setting is changed, and nothing is reset behind raw use but an open transaction. What is
    /// lost: a statement that is given up is not surely cancelled (PgBouncer 1.18 drops a cancel whose sender has closed, as the
    /// driver does: give the role a `statement_timeout`); statements are planned for each call; the node's role is known by [probes](Self::probe_interval) only; a replica's
    /// connection is read-only by the standby itself, so no longer once it was promoted; `SET`, `LISTEN` and session-level
    /// advisory locks of your own SQL reach others; `COPY` is refused; subscriptions look for news every 20 ms, since nobody tells them; and migrations and builds of indexes are refused, which need a
    /// session: give those a router with the server's own URL. Give each node a pooler's entry of its own, so that a name
    /// always means one server.
    ///
    /// Left `false` in front of such a pooler, connecting or the first statement fails, with the pooler's word for it.
    /// In session mode leave it `false`, and let the pooler pass the start-up parameter `options`.
    pub fn transaction_pooling(mut self, is_pooled: bool) -> Self {
        self.session.is_pooled = is_pooled;
        self
    }

    /// Whether [`connect`](Self::connect) fails when a replica cannot be reached. Defaults to `false`: a replica's
    /// outage must not keep the application from starting, it is logged and used as soon as it answers.
    ///
    /// A replica that answers but is not one, or refuses the log-in, is an error in any case.
    pub fn require_replicas(mut self, require: bool) -> Self {
        self.require_replicas = require;
        self
    }

    /// The encryption of connections to the nodes whose URL does not say it otherwise. Defaults to
    /// [verified encryption](tls::TlsMode) for nodes that are not on this machine.
    #[cfg(feature = "rustls")]
    pub fn tls(mut self, options: tls::TlsOptions) -> Self {
        self.tls = options;
        self
    }

    /// Builds the router and asks every node whether it is what the settings say: it accepts the log-in, runs
    /// PostgreSQL 15 or newer, has the role, and belongs to the same cluster as the others. Of the nodes of a
    /// [URL list](Self::from_url) one has to take writes.
    ///
    /// The settings may be older than the last failover: with [probes](Self::probe_interval), the roles may have changed if
    /// one of the nodes is the primary now, and the old primary may be away.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) when a setting is wrong or a node is not what it
    /// should be, [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when the primary (or with
    /// [`require_replicas`](Self::require_replicas) a replica) cannot be reached.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what it opened.
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

    /// Builds the router without asking anybody: connections are opened by the first calls and probes.
    ///
    /// The primary of the settings may have been replaced while the application was down. So with
    /// [probes](Self::probe_interval) the first strong calls, and reads that are [bounded](crate::Consistency::Bounded), wait until every node has been asked once: a few milliseconds, and
    /// up to the [connect timeout](Self::connect_timeout) when one of them does not answer. Then that one is left aside.
    /// [`connect`](Self::connect) also tells what is wrong.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) when a setting is wrong, and outside of a tokio runtime.
    pub fn build(self) -> Result<Router> {
        let router = self.assemble()?;
        router.start();
        Ok(router)
    }
}

/// Without the URLs: they hold passwords.
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
