//! One connection of our own: the driver's client, the task that moves its bytes, and what we know about it.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU8, AtomicUsize, Ordering},
};

use futures_util::future::poll_fn;
use tokio::task::AbortHandle;
use tokio_postgres::{AsyncMessage, Client, Config, Error, NoTls, Statement};

use super::{Role, statements::StatementCache};

/// A connection as our pools keep it.
#[derive(Debug)]
pub(super) struct Connection {
    client: Client,
    role: Role,
    statements: Mutex<StatementCache>,
    in_hot_standby: Arc<AtomicU8>,
    pending: AtomicUsize,
    driver: AbortHandle,
}

/// The values of the parameter `in_hot_standby`, which servers report without being asked. A proxy may keep it.
const UNKNOWN: u8 = 0;
const OFF: u8 = 1;
const ON: u8 = 2;

impl Connection {
    /// Connects to a node of this role, and hands the socket to a task of its own.
    pub(super) async fn open(config: &Config, role: Role, statement_capacity: usize) -> Result<Self, Error> {
        let (client, mut connection) = config.connect(NoTls).await?;
        let in_hot_standby = Arc::new(AtomicU8::new(encode(connection.parameter("in_hot_standby"))));
        let reported = Arc::clone(&in_hot_standby);
        // bb8-postgres spawns the connection and throws its messages away. We look at the parameter whenever bytes
        // have arrived: after a promotion the first answer brings the change, before the query itself resolves.
        let driver = tokio::spawn(async move {
            loop {
                let message = poll_fn(|cx| {
                    let message = connection.poll_message(cx);
                    reported.store(encode(connection.parameter("in_hot_standby")), Ordering::Release);
                    message
                });
                match message.await {
                    Some(Ok(AsyncMessage::Notice(notice))) => {
                        tracing::debug!(code = notice.code().code(), "{}", notice.message());
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        tracing::debug!(error = &error as &dyn std::error::Error, "connection lost");
                        return;
                    }
                    None => return,
                }
            }
        });
        Ok(Self {
            client,
            role,
            statements: Mutex::new(StatementCache::new(statement_capacity)),
            in_hot_standby,
            pending: AtomicUsize::new(0),
            driver: driver.abort_handle(),
        })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    #[cfg(feature = "migrations")]
    pub(super) fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    pub(super) fn pending(&self) -> &AtomicUsize {
        &self.pending
    }

    /// Whether the server has told, at connecting or in its last answer, that it plays another role than it should.
    pub(super) fn has_wrong_role(&self) -> bool {
        match self.role {
            Role::Primary => self.in_hot_standby.load(Ordering::Acquire) == ON,
            Role::Replica => self.in_hot_standby.load(Ordering::Acquire) == OFF,
        }
    }

    /// Whether nobody may use this connection again: it is closed, or to a node that was promoted or demoted, or
    /// somebody gave up waiting for an answer, and the next user would get in line behind it.
    pub(super) fn is_spent(&self) -> bool {
        self.client.is_closed() || self.pending.load(Ordering::Acquire) > 0 || self.has_wrong_role()
    }

    pub(super) fn cached(&self, sql: &str) -> Option<Statement> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner).get(sql)
    }

    pub(super) fn cache(&self, sql: &str, statement: Statement) {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner).insert(sql, statement);
    }

    /// Whether there was a statement to forget.
    pub(super) fn forget(&self, sql: &str) -> bool {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner).remove(sql)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The driver's task waits for outstanding answers before it closes the socket: with a server that has gone
        // silent, for ever. Nobody waits for those answers any more.
        if self.pending.load(Ordering::Acquire) > 0 {
            self.driver.abort();
        }
    }
}

fn encode(in_hot_standby: Option<&str>) -> u8 {
    match in_hot_standby {
        Some("off") => OFF,
        Some("on") => ON,
        _ => UNKNOWN,
    }
}
