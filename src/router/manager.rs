//! How bb8 opens and judges our connections.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bb8::ManageConnection;
use tokio::{sync::watch, time::timeout};
use tokio_postgres::Config;

use super::{
    Role,
    connection::{Connection, SessionSettings},
    failure,
    state::NodeHandle,
    tls::Encryption,
};
use crate::error::{Error, ErrorKind};

/// The manager of one node's pool.
#[derive(Debug)]
pub(super) struct Manager {
    configs: Configs,
    node: NodeHandle,
    connect_timeout: Duration,
    session: SessionSettings,
    failures: Arc<ConnectFailures>,
}

/// How to connect to a node, depending on the role that it plays.
#[derive(Debug)]
pub(super) struct Configs {
    pub(super) primary: Config,
    pub(super) replica: Config,
    pub(super) encryption: Encryption,
}

/// The connect errors of one node. bb8 wakes nobody when connecting fails: whoever waits for a connection watches this
/// instead of waiting out the pool's whole limit, and learns why.
#[derive(Debug)]
pub(super) struct ConnectFailures {
    count: watch::Sender<u64>,
    /// Connects that are under way: the pool does not count them.
    opening: AtomicUsize,
    last: Mutex<Option<Arc<Error>>>,
}

impl Manager {
    pub(super) fn new(
        configs: Configs,
        node: NodeHandle,
        connect_timeout: Duration,
        session: SessionSettings,
        failures: Arc<ConnectFailures>,
    ) -> Self {
        Self { configs, node, connect_timeout, session, failures }
    }

    async fn open(&self) -> Result<Box<Connection>, Error> {
        // One limit around the socket *and* the start-up: the driver's own connect_timeout ends with the socket, and a
        // server that accepts and then says nothing would keep this slot for ever.
        match timeout(self.connect_timeout, self.open_as_what_it_is()).await {
            Ok(opened) => opened.map(Box::new),
            Err(_) => {
                let limit = self.connect_timeout;
                let message = format!("no connection within the connect timeout of {limit:?}");
                Err(Error::new(ErrorKind::Unavailable, message))
            }
        }
    }

    /// A connection that fits the role of the node. If the node has another one than is believed, that is told, and it is
    /// connected to anew.
    async fn open_as_what_it_is(&self) -> Result<Connection, Error> {
        let first = self.open_once().await?;
        let Some(told) = first.other_role() else { return Ok(first) };
        self.node.told_role(told);
        drop(first);
        let second = self.open_once().await?;
        match second.other_role() {
            None => Ok(second),
            Some(_) => Err(Error::new(ErrorKind::Unavailable, "its role changes from one connection to the next")),
        }
    }

    async fn open_once(&self) -> Result<Connection, Error> {
        let (role, generation) = self.node.standing();
        let config = match role {
            Role::Primary => &self.configs.primary,
            Role::Replica => &self.configs.replica,
        };
        let encryption = self.configs.encryption.clone();
        let opening = Connection::open(config, encryption, self.node.clone(), (role, generation), self.session);
        opening.await.map_err(failure::on_connect)
    }
}

impl ManageConnection for Manager {
    /// Boxed, since the pool moves it about.
    type Connection = Box<Connection>;
    type Error = Error;

    async fn connect(&self) -> Result<Box<Connection>, Error> {
        let _opening = Opening::new(&self.failures.opening);
        self.open().await
    }

    async fn is_valid(&self, _: &mut Box<Connection>) -> Result<(), Error> {
        // Never called: a test on check-out is a round trip for every call, and is outdated when it returns.
        Ok(())
    }

    fn has_broken(&self, connection: &mut Box<Connection>) -> bool {
        connection.is_spent()
    }
}

impl ConnectFailures {
    pub(super) fn new() -> Self {
        Self { count: watch::Sender::new(0), opening: AtomicUsize::new(0), last: Mutex::new(None) }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }

    /// The last connect error, if connecting ever failed.
    pub(super) fn last(&self) -> Option<Arc<Error>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a connect is under way.
    pub(super) fn is_opening(&self) -> bool {
        self.opening.load(Ordering::Acquire) > 0
    }

    fn record(&self, error: &Error) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(error.clone()));
        self.count.send_modify(|count| *count += 1);
    }
}

/// One connect that is under way.
struct Opening<'a>(&'a AtomicUsize);

impl<'a> Opening<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Where bb8 sends connect errors, after it has freed the connection's slot: whom this wakes can ask for a new one.
#[derive(Debug)]
pub(super) struct FailureSink(pub(super) Arc<ConnectFailures>);

impl bb8::ErrorSink<Error> for FailureSink {
    fn sink(&self, error: Error) {
        self.0.record(&error);
    }

    fn boxed_clone(&self) -> Box<dyn bb8::ErrorSink<Error>> {
        Box::new(Self(Arc::clone(&self.0)))
    }
}
