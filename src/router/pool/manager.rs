//! How bb8 opens and checks our connections.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bb8::ManageConnection;
use futures_util::future::{Either, select};
use tokio::{
    sync::watch,
    time::{Instant, error::Elapsed, timeout, timeout_at},
};
use tokio_postgres::Config;

use super::{
    connection::{Connection, SessionSettings},
    upkeep::{NextLook, Upkeep},
};
#[cfg(feature = "metrics")]
use crate::telemetry::{Outcome, metrics::router::opened as opened_in};
use crate::{
    router::{Role, config::tls::Encryption, core::ConnectFailure, lease::failure::NotConnected, state::NodeHandle},
    telemetry::Stopwatch,
};

/// The manager of one node's pool.
#[derive(Debug)]
pub(in crate::router) struct Manager {
    configs: Configs,
    node: NodeHandle,
    connect_timeout: Duration,
    session: SessionSettings,
    upkeep: Upkeep,
    next_look: Arc<NextLook>,
}

/// How to connect to a node, depending on its role.
#[derive(Debug)]
pub(in crate::router) struct Configs {
    pub(in crate::router) primary: Config,
    pub(in crate::router) replica: Config,
    pub(in crate::router) encryption: Encryption,
}

/// The connect errors of one node. A call that waits for a connection watches this instead of waiting for the pool's
/// whole limit, and learns the reason.
#[derive(Debug)]
pub(in crate::router) struct ConnectFailures {
    count: watch::Sender<u64>,
    last: Mutex<Option<Arc<NotConnected>>>,
}

impl Manager {
    pub(in crate::router) fn new(
        configs: Configs,
        node: NodeHandle,
        connect_timeout: Duration,
        session: SessionSettings,
        upkeep: Upkeep,
    ) -> Self {
        Self { configs, node, connect_timeout, session, upkeep, next_look: Arc::default() }
    }

    pub(in crate::router) fn next_look(&self) -> &Arc<NextLook> {
        &self.next_look
    }

    /// The code that opens it reports the result, not the calls that wait for it: they may be gone by then.
    async fn open(&self) -> Result<Box<Connection>, NotConnected> {
        let signs_of_life = self.node.signs_of_life();
        let stopwatch = Stopwatch::start();
        let opened = self.open_in_time().await;
        let _ = stopwatch;
        with_metrics! {
            let outcome = opened.as_ref().map_or_else(|failed| Outcome::from(&failed.error), |_| Outcome::Succeeded);
            if let Some(name) = self.node.name() {
                opened_in(name, outcome, stopwatch.elapsed());
            }
        }
        match &opened {
            Ok(_) => self.node.logged_in(),
            // Whether all logins are refused depends on how many are in: see `Node::lease`.
            Err(failed) if failed.why == ConnectFailure::Refused => {}
            // It has answered others meanwhile: this is a single request without an answer, like a call that takes
            // long.
            Err(failed) if failed.why == ConnectFailure::NoAnswer && self.node.signs_of_life() != signs_of_life => {}
            Err(failed) => self.node.connect_failed(failed.why),
        }
        opened
    }

    async fn open_in_time(&self) -> Result<Box<Connection>, NotConnected> {
        // One limit around the socket *and* the start-up: the driver's own connect_timeout ends with the socket, and a
        // server that accepts and then says nothing would keep this slot forever.
        let limit = if flawed!(NoConnectLimit) { Duration::from_secs(3600) } else { self.connect_timeout };
        match timeout(limit, self.open_as_what_it_is()).await {
            Ok(opened) => {
                let lifetime = self.upkeep.lifetime(self.node.random());
                opened.map(|connection| Box::new(connection.lives_for(lifetime)))
            }
            Err(_) => {
                let limit = self.connect_timeout;
                let message = format!("no connection within the connect timeout of {limit:?}");
                let NotConnected { error, why } = NotConnected::new(ConnectFailure::NoAnswer, message);
                Err(NotConnected { error: error.out_of_time(), why })
            }
        }
    }

    /// A connection that fits the node's role. If the role differs from the assumed one, that is reported, and the
    /// connection is opened again.
    async fn open_as_what_it_is(&self) -> Result<Connection, NotConnected> {
        let first = self.open_once().await?;
        let Some(told) = first.other_role() else { return Ok(first) };
        self.node.told_role(told);
        drop(first);
        let second = self.open_once().await?;
        match second.other_role() {
            None => Ok(second),
            Some(_) => {
                let message = "its role changes from one connection to the next";
                Err(NotConnected::new(ConnectFailure::Refused, message))
            }
        }
    }

    async fn open_once(&self) -> Result<Connection, NotConnected> {
        let (role, generation) = self.node.standing();
        let config = match role {
            Role::Primary => &self.configs.primary,
            Role::Replica => &self.configs.replica,
        };
        let encryption = self.configs.encryption.clone();
        let opening =
            Connection::open(config, encryption, self.node.clone(), (role, generation), self.session, &self.next_look);
        Ok(opening.await?)
    }
}

impl ManageConnection for Manager {
    /// Boxed, since the pool moves it about.
    type Connection = Box<Connection>;
    type Error = NotConnected;

    async fn connect(&self) -> Result<Box<Connection>, NotConnected> {
        self.open().await
    }

    async fn is_valid(&self, _: &mut Box<Connection>) -> Result<(), NotConnected> {
        // Never called: a test on check-out costs each call a round trip, and is outdated when it returns.
        Ok(())
    }

    fn has_broken(&self, connection: &mut Box<Connection>) -> bool {
        connection.came_back(Instant::now())
    }
}

impl ConnectFailures {
    pub(in crate::router) fn new() -> Self {
        Self { count: watch::Sender::new(0), last: Mutex::new(None) }
    }

    /// The result of `get`, or nothing as soon as there are more failures than these; an error when it is too late.
    pub(in crate::router) async fn unless_failed<F>(
        &self,
        so_far: u64,
        until: Instant,
        get: F,
    ) -> Result<Option<F::Output>, Elapsed>
    where
        F: Future + Unpin,
    {
        let mut count = self.count.subscribe();
        let failed = pin!(count.wait_for(|count| *count != so_far));
        timeout_at(until, select(get, failed)).await.map(|first| match first {
            Either::Left((got, _)) => Some(got),
            Either::Right(_) => None,
        })
    }

    /// The last connect error, if connecting ever failed.
    pub(in crate::router) fn last(&self) -> Option<Arc<NotConnected>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(in crate::router) fn count(&self) -> u64 {
        *self.count.borrow()
    }

    pub(in crate::router) fn record(&self, failed: NotConnected) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(failed));
        self.count.send_modify(|count| *count += 1);
    }
}
