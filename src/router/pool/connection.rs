//! One connection of ours: the driver's client, and what we know about it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crossbeam_utils::atomic::AtomicCell;
use futures_util::FutureExt;
use tokio::{
    runtime::Handle,
    sync::watch,
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};
use tokio_postgres::{CancelToken, Client, Config, Error, NoTls, Statement, types::Type};

use super::{
    server_reports::{ReportListeners, ServerReports, listen},
    statements::StatementCache,
    upkeep::NextLook,
};
use crate::router::{Role, ServerSession, config::tls::Encryption, lease::reset::Reset, state::NodeHandle};

/// How long a cancel request may take. It uses a separate connection.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);

/// A connection as our pools keep it.
#[derive(Debug)]
pub(in crate::router) struct Connection {
    client: Client,
    node: NodeHandle,
    /// The node's role when this was opened.
    role: Role,
    generation: u32,
    opened: Instant,
    /// When it should be closed, as soon as it is idle.
    expires: Option<Instant>,
    /// Since when it has been idle in the pool.
    idle_since: Instant,
    /// Whether it was taken out of the pool only for a check.
    is_being_checked: bool,
    settings: SessionSettings,
    statements: Mutex<StatementCache>,
    /// For the statements of a pooled connection, the types of their parameters.
    types: Mutex<StatementCache<Arc<[Type]>>>,
    reports: Arc<ServerReports>,
    /// Calls whose answer has not arrived.
    pending: AtomicUsize,
    /// Those of them that are appends, and must not be cancelled.
    appends: AtomicUsize,
    reset: Arc<Reset>,
    /// Whether the server has said that it ends the session.
    has_ended: AtomicBool,
    planning: AtomicCell<Planning>,
    /// The server's cluster, once it was asked; empty inside if the server does not reveal it.
    system: OnceLock<Option<u64>>,
    driver: AbortHandle,
    encryption: Encryption,
}

/// How sessions are used.
#[derive(Clone, Copy, Debug)]
pub(in crate::router) struct SessionSettings {
    /// The maximum number of prepared statements.
    pub(in crate::router) statements: usize,
    /// Whether a pooler gives each transaction a different session.
    pub(in crate::router) is_pooled: bool,
}

/// When the server plans a statement with parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Planning {
    /// As its settings say: by default for each of the first five calls, and then as it decides.
    #[default]
    ByTheServer,
    /// For each call: for statements whose best plan depends on the values, so that a generic plan is bad for most. The
    /// server does not always recognise that.
    ForEach,
    /// Once for all values, never by a scan of the whole table. For statements that leave no choice; it saves half of
    /// the time of a short read.
    Once,
}

impl Connection {
    /// Connects to a node that is assumed to be this.
    pub(in crate::router) async fn open(
        config: &Config,
        encryption: Encryption,
        node: NodeHandle,
        (role, generation): (Role, u32),
        settings: SessionSettings,
        next_look: &Arc<NextLook>,
    ) -> Result<Self, Error> {
        let reset = Arc::<Reset>::default();
        let listeners = ReportListeners { reset: Arc::clone(&reset), next_look: Arc::clone(next_look) };
        let opening = match &encryption {
            Encryption::Off => listen(config.connect(NoTls).await?, listeners),
            #[cfg(feature = "rustls")]
            Encryption::On(tls) => listen(config.connect(tls.connector().await).await?, listeners),
        };
        let ((client, reports, driver), opened) = (opening, Instant::now());
        Ok(Self {
            client,
            node,
            role,
            generation,
            opened,
            expires: None,
            idle_since: opened,
            is_being_checked: false,
            settings,
            statements: Mutex::new(StatementCache::new(settings.statements)),
            types: Mutex::new(StatementCache::new(settings.statements)),
            reports,
            pending: AtomicUsize::new(0),
            appends: AtomicUsize::new(0),
            reset,
            has_ended: AtomicBool::new(false),
            planning: AtomicCell::new(Planning::ByTheServer),
            system: OnceLock::new(),
            driver,
            encryption,
        })
    }

    /// Sets how long after its opening it is closed.
    pub(in crate::router) fn lives_for(mut self, lifetime: Option<Duration>) -> Self {
        self.expires = lifetime.and_then(|lifetime| self.opened.checked_add(lifetime));
        self
    }

    pub(in crate::router) fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }

    /// How long it has been idle.
    pub(in crate::router) fn idle_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.idle_since)
    }

    /// The pool takes it out and puts it back for a check, which is no use of it.
    pub(in crate::router) fn begin_check(&mut self) {
        self.is_being_checked = true;
    }

    /// Its return to the pool closes it.
    pub(in crate::router) fn expire(&mut self, now: Instant) {
        self.expires = Some(now);
    }

    /// It returns to the pool. Returns whether it should be closed.
    pub(in crate::router) fn came_back(&mut self, now: Instant) -> bool {
        if !std::mem::take(&mut self.is_being_checked) {
            self.idle_since = now;
        }
        self.is_spent() || self.is_expired(now)
    }

    pub(in crate::router) fn client(&self) -> &Client {
        &self.client
    }

    pub(in crate::router) fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    pub(in crate::router) fn pending(&self) -> &AtomicUsize {
        &self.pending
    }

    /// See the field.
    pub(in crate::router) fn appends(&self) -> &AtomicUsize {
        &self.appends
    }

    /// How many commits did not wait for their standby to the end.
    pub(in crate::router) fn unreplicated(&self) -> usize {
        self.reports.unreplicated()
    }

    /// See the field.
    pub(in crate::router) fn system(&self) -> &OnceLock<Option<u64>> {
        &self.system
    }

    /// The major version of the server, 0 if unknown.
    pub(in crate::router) fn version(&self) -> u32 {
        self.reports.version()
    }

    /// The notifications on the channels of this session; `None` once the connection has ended.
    pub(in crate::router) fn notified(&self) -> watch::Receiver<Option<Box<str>>> {
        self.reports.notified()
    }

    /// The node's role when this was opened.
    pub(in crate::router) fn role(&self) -> Role {
        self.role
    }

    pub(in crate::router) fn session(&self) -> ServerSession {
        ServerSession { server: (self.node.index(), self.generation), opened: self.opened }
    }

    /// The other role, if the server has reported, at connecting or in its last answer, that it has that one now.
    pub(in crate::router) fn other_role(&self) -> Option<Role> {
        self.reports.role().filter(|role| *role != self.role)
    }

    /// Whether the node has changed into something else since this was opened.
    pub(in crate::router) fn is_of_the_past(&self) -> bool {
        self.other_role().is_some() || self.node.standing().1 != self.generation
    }

    /// The server has said that it ends the session.
    pub(in crate::router) fn ends(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
    }

    /// Whether this connection must not be used again: it is closed or about to be; or it leads to what a node was
    /// before it was promoted or demoted; or a call was abandoned without its answer, and the next user would queue
    /// after it; or what its last user left could not be reset.
    pub(in crate::router) fn is_spent(&self) -> bool {
        self.pending.load(Ordering::Acquire) > 0 || self.is_over()
    }

    /// The same for its present users, which may still wait for answers.
    pub(in crate::router) fn is_over(&self) -> bool {
        self.client.is_closed()
            || self.has_ended.load(Ordering::Relaxed)
            || self.is_of_the_past()
            || self.reset.has_failed()
    }

    /// Makes sure that the next statements are planned in this way. If necessary, the server is told in a message
    /// before them, whose answer is not awaited.
    pub(in crate::router) fn plan(&self, planning: Planning) {
        if self.is_pooled() {
            return;
        }
        if self.planning.swap(planning) != planning {
            let sql = match planning {
                Planning::ByTheServer => {
                    "RESET plan_cache_mode; RESET enable_seqscan; RESET max_parallel_workers_per_gather"
                }
                Planning::ForEach => {
                    "SET plan_cache_mode = force_custom_plan; RESET enable_seqscan; RESET max_parallel_workers_per_gather"
                }
                // Such a plan treats every value as frequent, and would start workers for a few rows.
                Planning::Once => {
                    "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; \
                     SET max_parallel_workers_per_gather = 0"
                }
            };
            self.send_unawaited(sql);
        }
    }

    /// Sends `sql` before the next statements. Its answer is not awaited.
    pub(in crate::router) fn send_unawaited(&self, sql: &str) {
        let _ = self.client.simple_query_raw(sql).now_or_never();
    }

    /// Sends `sql`, which resets what a user has left, without waiting for the answer: the next user's first statement
    /// queues after it.
    pub(in crate::router) fn send_reset(&self, sql: &str) {
        if !self.reset.has_failed() {
            self.planning.store(Planning::ByTheServer);
            self.reset.send(&self.client, sql);
        }
    }

    /// See [`send_reset`](Self::send_reset).
    pub(in crate::router) fn reset(&self) -> &Reset {
        &self.reset
    }

    pub(in crate::router) fn is_pooled(&self) -> bool {
        self.settings.is_pooled
    }

    pub(in crate::router) fn types(&self, sql: &str) -> Option<Arc<[Type]>> {
        lock(&self.types).get(sql)
    }

    pub(in crate::router) fn keep_types(&self, sql: &str, types: Arc<[Type]>) {
        lock(&self.types).insert(sql, types);
    }

    pub(in crate::router) fn forget_types(&self, sql: &str) {
        lock(&self.types).remove(sql);
    }

    pub(in crate::router) fn cached(&self, sql: &str) -> Option<Statement> {
        lock(&self.statements).get(sql)
    }

    pub(in crate::router) fn cache(&self, sql: &str, statement: Statement) {
        lock(&self.statements).insert(sql, statement);
    }

    /// Whether there was a statement to forget.
    pub(in crate::router) fn forget(&self, sql: &str) -> bool {
        lock(&self.statements).remove(sql)
    }

    pub(in crate::router) fn forget_all(&self) {
        lock(&self.statements).clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    /// Asks the server to cancel what is in progress: it would continue to work for nobody, beyond the limit of
    /// `max_connections`. The end of the connection does so at the latest; behind a pooler only that does.
    pub(in crate::router) fn cancel(&self) {
        if let Some(runtime) = self.cancels_on().filter(|_| !self.is_pooled()) {
            let (token, encryption) = (self.client.cancel_token(), self.encryption.clone());
            runtime.spawn(async move { timeout(CANCEL_LIMIT, cancel(token, encryption)).await });
        }
    }

    /// Where the cancel request runs, if one may be sent.
    fn cancels_on(&self) -> Option<Handle> {
        Handle::try_current().ok().filter(|_| self.appends.load(Ordering::Acquire) == 0)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let abandoned = self.pending.load(Ordering::Acquire) > 0;
        if abandoned
            && self.is_pooled()
            && let Some(runtime) = self.cancels_on()
        {
            // A pooler knows what to cancel only as long as the connection exists.
            let (token, encryption, driver) =
                (self.client.cancel_token(), self.encryption.clone(), self.driver.clone());
            runtime.spawn(async move {
                let _ = timeout(CANCEL_LIMIT, cancel_and_see(token, encryption, &driver)).await;
                driver.abort();
            });
            return;
        }
        if abandoned {
            self.cancel();
        }
        // The driver's task waits for outstanding answers before it closes the socket: with a server that has gone
        // silent, forever. Nobody waits for those answers any more.
        if abandoned || !self.reset.is_done() {
            self.driver.abort();
        }
    }
}

/// Cancels, and waits until the driver has the answer to what was cancelled: then it ends by itself.
async fn cancel_and_see(token: CancelToken, encryption: Encryption, driver: &AbortHandle) -> Result<(), Error> {
    cancel(token, encryption).await?;
    while !driver.is_finished() {
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Asks the server to cancel, over an equally protected connection: a secret identifies what is cancelled.
async fn cancel(token: CancelToken, encryption: Encryption) -> Result<(), Error> {
    match encryption {
        Encryption::Off => token.cancel_query(NoTls).await,
        #[cfg(feature = "rustls")]
        Encryption::On(tls) => token.cancel_query(tls.connector().await).await,
    }
}
