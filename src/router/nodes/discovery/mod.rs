//! Replicas that come and go: found by a name that is resolved repeatedly, or listed by the user.
//!
//! | file | what it holds |
//! |---|---|
//! | `settings` | the builder's settings |
//! | `resolver` | resolves a name to addresses |
//! | `name` | the URL whose host is such a name |
//! | `members` | compares a list of replicas with the present ones: what to add and what to remove |
//! | `tasks` | repeats the look-ups as long as the router lives |
//!
//! Each source has its own replicas, and only changes those. Its list never counts as empty: a resolver that fails or
//! returns nothing changes nothing, and the status shows it.

mod members;
mod name;
mod resolver;
mod settings;
mod tasks;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{task::AbortHandle, time::Instant};

pub(in crate::router) use self::{members::Member, settings::DiscoverySettings};
use self::{members::Wanted, name::NameUrl, tasks::Changes};
pub use self::{resolver::HostResolver, settings::SourceStatus};
use crate::{
    error::{Error, Result},
    router::{Router, config::settings::ReplicaOptions},
};

/// The list in the settings, which is replaced by [`Router::set_replicas`] and by a stream of changes. Names come after
/// it.
const LIST: usize = 0;

/// The sources of replicas.
pub(in crate::router) struct Discovery {
    names: Vec<(NameUrl, ReplicaOptions)>,
    changes: Option<Changes>,
    resolver: Arc<dyn HostResolver>,
    interval: Duration,
    members: Mutex<Vec<Member>>,
    /// One for each source.
    answers: Mutex<Vec<Answer>>,
    tasks: ArcSwap<Vec<(usize, AbortHandle)>>,
}

/// The answer of a source.
#[derive(Default)]
struct Answer {
    /// The last list that was not empty, and when it arrived.
    wanted: Vec<Wanted>,
    at: Option<Instant>,
    /// Why it is not newer, or why part of it is missing.
    error: Option<String>,
    /// Whether that is because some nodes have found no place so far.
    is_short: bool,
}

impl Discovery {
    pub(in crate::router) fn new(settings: DiscoverySettings, listed: Vec<Member>) -> Self {
        let DiscoverySettings { names, changes, resolver, interval } = settings;
        let mut answers: Vec<_> = names.iter().map(|_| Answer::default()).collect();
        answers.insert(LIST, Answer::default());
        Self {
            names,
            changes: changes.map(Changes::new),
            resolver,
            interval,
            members: Mutex::new(listed),
            answers: Mutex::new(answers),
            tasks: ArcSwap::default(),
        }
    }

    /// Whether there may be replicas that are not known yet.
    pub(in crate::router) fn finds_replicas(&self) -> bool {
        !self.names.is_empty() || self.changes.is_some()
    }

    /// Whether this source has answered, even if only that it has no answer.
    fn has_answered(&self, source: usize) -> bool {
        self.answers().get(source).is_some_and(|answer| answer.at.is_some() || answer.error.is_some())
    }

    /// The names that have not been resolved so far.
    pub(in crate::router) fn unanswered(&self) -> Vec<String> {
        let answers = self.answers();
        let missing = self.names.iter().zip(&answers[LIST + 1..]);
        let missing = missing.filter(|(_, answer)| answer.at.is_none() && answer.error.is_none());
        missing.map(|((name, _), _)| name.to_string()).collect()
    }

    /// What is known about the sources that change.
    pub(in crate::router) fn status(&self) -> Vec<SourceStatus> {
        let (members, answers) = (self.members(), self.answers());
        let name = |source: usize| match source.checked_sub(LIST + 1) {
            Some(name) => self.names.get(name).map_or_else(String::new, |(name, _)| name.to_string()),
            None => "list".to_owned(),
        };
        let changing = answers.iter().enumerate().filter(|(source, answer)| {
            *source != LIST || self.changes.is_some() || answer.at.is_some() || answer.error.is_some()
        });
        changing
            .map(|(source, answer)| SourceStatus {
                name: name(source).into(),
                nodes: members.iter().filter(|member| member.source == source).map(Member::name).collect(),
                age: answer.at.map(|at| at.elapsed()),
                error: answer.error.clone(),
            })
            .collect()
    }

    fn members(&self) -> MutexGuard<'_, Vec<Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answers(&self) -> MutexGuard<'_, Vec<Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Router {
    /// Replaces the replicas that were listed by URL: in the settings, by an earlier call, or by [a
    /// stream](crate::router::RouterBuilder::replica_changes). Replicas found by name, and existing pools, stay.
    ///
    /// A URL that was there before keeps its node, with its connections and its options. A new node is probed, and
    /// serves once it has reported that it is a replica of this cluster, at first with a [small
    /// share](crate::router::RouterBuilder::slow_start). A node that is no longer listed gets no new calls; those in flight
    /// continue. The primary, however, stays until another node takes writes: a list that leaves out the primary does
    /// not stop it.
    ///
    /// ```no_run
    /// # fn run(router: mainstem::Router) -> mainstem::Result<()> {
    /// router.set_replicas(["postgres://app:secret@10.0.0.2/shop", "postgres://app:secret@10.0.0.4/shop"])?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) if a URL is wrong or outside of a tokio runtime,
    /// and [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if there is none (a list that is empty by
    /// mistake would send all reads to the primary), if [probing](crate::router::RouterBuilder::probe_interval) is off, or if
    /// there are too many. Nothing has changed then, except in the last case: the nodes that found a place are in, and
    /// the others follow when places become free, within a
    /// [`resolve_interval`](crate::router::RouterBuilder::resolve_interval). Nodes that have left keep their places while they
    /// are in use, so this can also happen when more than half of all nodes are replaced at once.
    pub fn set_replicas<I>(&self, urls: I) -> Result<()>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        if !self.inner.probes.are_asking() {
            let message = "replicas can only be added where nodes are asked what they are: set a probe_interval";
            return Err(Error::invalid_input(message));
        }
        crate::runtime::current()?;
        let wanted = urls.into_iter().map(|url| Wanted::of_url(url.into())).collect();
        let outcome = self.inner.learn(LIST, Ok(wanted), false);
        self.look(LIST);
        outcome
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.tasks.load().iter().for_each(|(_, task)| task.abort());
    }
}

/// Leaves out the URLs: they contain passwords.
impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery").field("sources", &self.status()).finish_non_exhaustive()
    }
}
