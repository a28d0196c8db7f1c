//! Repeats the look-ups as long as the router lives.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{StreamExt, future::join_all, stream::BoxStream};
use tokio::{
    runtime::Handle,
    sync::Mutex,
    time::{sleep, timeout, timeout_at},
};

use super::{LIST, members::Wanted};
use crate::{
    error::{Error, ErrorKind, Result},
    router::{Deadline, Inner, Router},
};

/// The minimum time between two look-ups, however often connecting fails.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// A stream of lists. It outlives the task that reads it, which ends with its runtime.
#[derive(Clone)]
pub(super) struct Changes(Arc<Mutex<Option<BoxStream<'static, Vec<String>>>>>);

impl Changes {
    pub(super) fn new(stream: BoxStream<'static, Vec<String>>) -> Self {
        Self(Arc::new(Mutex::new(Some(stream))))
    }

    /// The next list, if one arrives within that time.
    async fn next(&self, limit: Duration) -> Option<Vec<String>> {
        let until = Deadline::after(limit).at();
        let mut stream = self.0.lock().await;
        if let Some(lists) = stream.as_mut() {
            match timeout_at(until, lists.next()).await {
                Ok(None) => *stream = None,
                Ok(list) => return list,
                Err(_) => return None,
            }
        }
        drop(stream);
        tokio::time::sleep_until(until).await;
        None
    }
}

impl Router {
    /// Resolves all names once, so that their replicas exist when the router does.
    pub(in crate::router) async fn look_up_names(&self) -> Vec<Result<()>> {
        let names = 0..self.inner.discovery.names.len();
        join_all(names.map(|name| look_up(Arc::downgrade(&self.inner), name, true))).await
    }

    /// Starts the tasks that look for changes.
    pub(in crate::router) fn start_looking(&self) {
        let discovery = &self.inner.discovery;
        let list = discovery.changes.is_some().then_some(LIST);
        list.into_iter()
            .chain((0..discovery.names.len()).map(|name| LIST + 1 + name))
            .for_each(|source| self.look(source));
    }

    /// Starts a task for this source, unless one is running.
    pub(super) fn look(&self, source: usize) {
        let tasks = &self.inner.discovery.tasks;
        let _one_at_a_time = self.inner.discovery.members();
        let mut running = Vec::clone(&tasks.load());
        if running.iter().any(|(id, task)| *id == source && !task.is_finished()) {
            return;
        }
        running.retain(|(id, _)| *id != source);
        running.push((source, self.spawn(source)));
        tasks.store(Arc::new(running));
    }

    /// Restarts the tasks that have ended with their runtime, on the current runtime.
    pub(in crate::router) fn keep_looking(&self) {
        let tasks = self.inner.discovery.tasks.load();
        if tasks.iter().any(|(_, task)| task.is_finished()) && Handle::try_current().is_ok() {
            tasks.iter().for_each(|(source, _)| self.look(*source));
        }
    }

    fn spawn(&self, source: usize) -> tokio::task::AbortHandle {
        let inner = Arc::downgrade(&self.inner);
        match source.checked_sub(LIST + 1) {
            Some(name) => {
                let has_looked = self.inner.discovery.has_answered(source);
                tokio::spawn(follow_name(inner, name, has_looked)).abort_handle()
            }
            None => tokio::spawn(follow_list(inner)).abort_handle(),
        }
    }
}

async fn follow_name(inner: Weak<Inner>, name: usize, mut has_looked: bool) {
    loop {
        if !has_looked {
            // The status shows what went wrong.
            let _ = look_up(Weak::clone(&inner), name, true).await;
        }
        let Some(router) = inner.upgrade() else { return };
        let (interval, mut failures) = (router.discovery.interval, router.state.failures());
        drop(router);
        let next = Deadline::after(interval).at();
        sleep(LEAST_PAUSE.min(interval)).await;
        let _ = timeout_at(next, failures.changed()).await;
        has_looked = true;
        let _ = look_up(Weak::clone(&inner), name, false).await;
    }
}

/// Resolves a name, and applies the answer.
async fn look_up(inner: Weak<Inner>, name: usize, is_first: bool) -> Result<()> {
    let Some(router) = inner.upgrade() else { return Ok(()) };
    let limit = router.limits.connect_timeout;
    let Some((url, options)) = router.discovery.names.get(name).cloned() else { return Ok(()) };
    let looking = router.discovery.resolver.resolve(&url.host, url.port);
    drop(router);
    let answer = timeout(limit, looking).await;
    let Some(router) = inner.upgrade() else { return Ok(()) };
    let failed = |why: String| Err(Error::new(ErrorKind::Unavailable, format!("the name {url} {why}")));
    let wanted = match answer {
        Ok(Ok(addresses)) if addresses.is_empty() => failed("has no address".to_owned()),
        // Sorted, so that a router with few places always takes the same ones; a server may repeat an address.
        Ok(Ok(addresses)) => Ok(addresses.into_iter().collect::<BTreeSet<_>>()),
        Ok(Err(error)) => failed(format!("cannot be looked up: {error}")),
        Err(_) => failed(format!("could not be looked up within the connect timeout of {limit:?}")),
    };
    let wanted =
        wanted.map(|found| found.into_iter().map(|address| Wanted::of_address(&url, address, &options)).collect());
    let outcome = router.learn(LIST + 1 + name, wanted, is_first);
    if is_first {
        router.state.has_looked_up();
    }
    outcome
}

/// Applies the lists of a stream, if there is one, and makes up for removals and additions that were not possible
/// before.
async fn follow_list(inner: Weak<Inner>) {
    loop {
        let Some(router) = inner.upgrade() else { return };
        let (interval, changes) = (router.discovery.interval, router.discovery.changes.clone());
        drop(router);
        let list = match &changes {
            Some(changes) => changes.next(interval).await,
            None => {
                sleep(interval).await;
                None
            }
        };
        let Some(router) = inner.upgrade() else { return };
        match list {
            // The status shows what is wrong with it.
            Some(urls) => _ = router.learn(LIST, Ok(urls.into_iter().map(Wanted::of_url).collect()), false),
            None => router.apply_late(LIST),
        }
    }
}
