//! One node: a container's life, and its roles.

use std::{
    fmt,
    net::ToSocketAddrs,
    sync::Arc,
    time::{Duration, Instant},
};

use testcontainers_modules::testcontainers::{ContainerRequest, GenericImage};

use crate::{
    Error, ErrorKind, Result,
    testing::{
        ports, proxy::FaultProxy, replay, roles::Rejoined, scram, sealed::NodeParts, server::tail, sql,
        test_cluster::TestNode,
    },
};

use super::{
    cluster::Shared,
    engine::{Engine, State},
};

/// For a fast shutdown, which waits until the replicas have all of the log.
const STOP_LIMIT: Duration = Duration::from_secs(30);
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// For a replica that is ready to receive the stream.
const STREAM_LIMIT: Duration = Duration::from_secs(30);
/// For one attempt to log in to a starting server.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);
/// How often the first start tries another port because a different process was faster.
const PORT_TRIES: usize = 20;

/// One server of a [`DockerCluster`](super::DockerCluster): a container. [`TestNode`] contains its operations.
pub struct DockerNode {
    index: usize,
    name: String,
    container: String,
    shared: Arc<Shared>,
    /// One change at a time.
    change: tokio::sync::Mutex<()>,
}

impl DockerNode {
    pub(super) fn new(index: usize, shared: &Arc<Shared>) -> Self {
        let name = Self::name_of(index);
        Self {
            index,
            container: shared.recipe.container(&name),
            name,
            shared: Arc::clone(shared),
            change: tokio::sync::Mutex::new(()),
        }
    }

    /// Neither "primary" nor "replica": the name has to stay correct when roles change.
    pub(super) fn name_of(index: usize) -> String {
        format!("node_{}", index + 1)
    }

    /// Returns the name of its container, for `docker exec`, `docker logs` and the like. On the cluster's network it is
    /// also its host name, with port 5432.
    #[must_use]
    pub fn container(&self) -> &str {
        &self.container
    }

    /// Returns the server's log, over all of its starts since its container was created or it has
    /// [rejoined](TestNode::rejoin).
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) or [`Timeout`](ErrorKind::Timeout) if the engine does not return it.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn log(&self) -> Result<String> {
        self.engine().log(&self.container).await.map_err(|error| error.with_node(self.name.as_str()))
    }

    pub(super) async fn create_as_primary(&self) -> Result<()> {
        self.create(|port| self.shared.recipe.primary(&self.name, port)).await?;
        self.wait_until_ready().await?;
        // Tests connect often: the same password, with less hashing than the server itself uses.
        let verifier = scram::verifier(&self.shared.recipe.password, &ports::random::<16>()?);
        sql::ask(&self.url(), &self.name, &format!("ALTER ROLE mainstem PASSWORD '{verifier}'")).await.map(drop)
    }

    pub(super) async fn create_as_replica_of(&self, primary: &str) -> Result<()> {
        self.create(|port| self.shared.recipe.replica(&self.name, port, primary)).await?;
        self.wait_until_ready().await
    }

    /// Creates the container, the first time on a port of its choice.
    async fn create(&self, request: impl Fn(u16) -> ContainerRequest<GenericImage>) -> Result<()> {
        let first_time = self.port() == 0;
        let mut tries = 0;
        loop {
            if first_time {
                self.shared.members.set_port(self.index, ports::free_port()?);
            }
            tries += 1;
            match self.engine().run(request(self.port())).await {
                Ok(host) => {
                    self.shared.set_host(host);
                    return Ok(());
                }
                Err(error) if first_time && tries < PORT_TRIES && is_taken_port(&error) => {
                    self.engine().remove(&self.container).await?;
                }
                Err(error) => return Err(error.with_node(self.name.as_str())),
            }
        }
    }

    /// Waits until the server accepts a login. That needs TCP, on which the server does not listen while its data is
    /// being created.
    async fn wait_until_ready(&self) -> Result<()> {
        let (start, limit) = (Instant::now(), self.shared.start_limit);
        let url = self.url();
        loop {
            let answer = tokio::time::timeout(ATTEMPT_LIMIT, sql::ask(&url, &self.name, "SELECT")).await;
            if matches!(answer, Ok(Ok(_))) {
                return Ok(());
            }
            let state = self.engine().state(&self.container).await?;
            let (kind, message) = match state {
                State::Runs if start.elapsed() < limit => {
                    tokio::time::sleep(POLL).await;
                    continue;
                }
                State::Runs | State::Frozen => (ErrorKind::Timeout, format!("the server is not ready after {limit:?}")),
                State::Ended { status } => {
                    (ErrorKind::Unavailable, format!("the server's container ended with status {status}"))
                }
                State::Missing => (ErrorKind::Unavailable, "the server's container is gone".to_owned()),
            };
            let log = self.log().await.unwrap_or_default();
            let error = Error::new(kind, format!("{message}; its log ends with:\n{}\n", tail(&log)));
            return Err(error.with_node(self.name.as_str()));
        }
    }

    async fn shut_down(&self) -> Result<()> {
        if self.engine().state(&self.container).await? == State::Frozen {
            self.engine().unpause(&self.container).await?;
        }
        // In some images `docker stop` would send SIGTERM, which waits until all clients have left.
        self.engine().signal(&self.container, "SIGINT").await?;
        self.engine().wait_for_end(&self.container, STOP_LIMIT).await
    }

    async fn kill_it(&self) -> Result<()> {
        self.engine().signal(&self.container, "SIGKILL").await?;
        self.engine().wait_for_end(&self.container, KILL_LIMIT).await
    }

    async fn require_running(&self) -> Result<State> {
        match self.engine().state(&self.container).await? {
            State::Ended { .. } | State::Missing => {
                let message = "the server does not run; start() it first";
                Err(Error::new(ErrorKind::Unavailable, message).with_node(self.name.as_str()))
            }
            state => Ok(state),
        }
    }

    fn is_primary(&self) -> bool {
        self.index == self.shared.members.primary()
    }

    fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    fn with_name<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.with_node(self.name.as_str()))
    }
}

impl TestNode for DockerNode {
    fn name(&self) -> &str {
        &self.name
    }

    fn port(&self) -> u16 {
        self.shared.members.port(self.index)
    }

    fn url_for(&self, database: &str) -> String {
        self.shared.url(self.port(), database)
    }

    fn proxy(&self) -> Result<FaultProxy> {
        let host = self.shared.host();
        let unknown = || Error::configuration(format!("{host} is no host that can be found"));
        let addresses = (host, self.port()).to_socket_addrs();
        let mut addresses = addresses.map_err(|error| unknown().with_source(error))?;
        FaultProxy::start(addresses.next().ok_or_else(unknown)?)
    }

    async fn start(&self) -> Result<()> {
        let _change = self.change.lock().await;
        // A frozen server runs, but is never ready.
        if self.with_name(self.engine().state(&self.container).await)? == State::Frozen {
            return Ok(());
        }
        self.with_name(self.engine().start(&self.container).await)?;
        self.wait_until_ready().await
    }

    async fn stop(&self) -> Result<()> {
        let _change = self.change.lock().await;
        self.with_name(self.shut_down().await)
    }

    async fn kill(&self) -> Result<()> {
        let _change = self.change.lock().await;
        self.with_name(self.kill_it().await)
    }

    async fn freeze(&self) -> Result<()> {
        let _change = self.change.lock().await;
        match self.require_running().await? {
            State::Frozen => Ok(()),
            _ => self.with_name(self.engine().pause(&self.container).await),
        }
    }

    async fn thaw(&self) -> Result<()> {
        let _change = self.change.lock().await;
        match self.require_running().await? {
            State::Frozen => self.with_name(self.engine().unpause(&self.container).await),
            _ => Ok(()),
        }
    }

    async fn pause_replay(&self) -> Result<()> {
        let _change = self.change.lock().await;
        replay::pause(self).await
    }

    async fn resume_replay(&self) -> Result<()> {
        let _change = self.change.lock().await;
        replay::resume(self).await
    }

    async fn delay_replay(&self, delay: Duration) -> Result<()> {
        let _change = self.change.lock().await;
        if self.is_primary() {
            return Err(replay::nothing_to_delay(self));
        }
        let statement = format!("ALTER SYSTEM SET recovery_min_apply_delay = {}", delay.as_millis());
        sql::ask(&self.url(), &self.name, &statement).await?;
        replay::reload_delay(self, delay).await
    }

    async fn promote(&self) -> Result<()> {
        let _change = self.change.lock().await;
        replay::promote(self).await?;
        // Its replicas would get it with their base backup.
        sql::ask(&self.url(), &self.name, "ALTER SYSTEM RESET recovery_min_apply_delay").await?;
        self.shared.members.set_primary(self.index);
        Ok(())
    }

    async fn rejoin(&self) -> Result<Rejoined> {
        let _change = self.change.lock().await;
        if self.is_primary() {
            return Err(replay::cannot_follow_itself(self));
        }
        let primary = self.shared.members.primary();
        let url = self.shared.url(self.shared.members.port(primary), "postgres");
        replay::create_slot(&url, &self.name).await?;
        // The container takes a base backup only at its first start.
        self.with_name(self.engine().remove(&self.container).await)?;
        self.create_as_replica_of(&Self::name_of(primary)).await?;
        replay::wait_until_streaming(&url, &self.name, STREAM_LIMIT).await?;
        Ok(Rejoined::BaseBackup)
    }
}

impl NodeParts for DockerNode {
    fn url_at(&self, port: u16, database: &str) -> String {
        self.shared.url_at("127.0.0.1", port, database)
    }

    async fn is_at_work(&self) -> bool {
        matches!(self.engine().state(&self.container).await, Ok(State::Runs))
    }
}

fn is_taken_port(error: &Error) -> bool {
    let text = error.report();
    ["port is already allocated", "address already in use", "Ports are not available"]
        .iter()
        .any(|words| text.contains(words))
}

impl fmt::Debug for DockerNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("DockerNode");
        debug.field("name", &self.name).field("port", &self.port()).field("container", &self.container);
        debug.finish_non_exhaustive()
    }
}
