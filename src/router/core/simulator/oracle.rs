//! What the router has been told so far, stored in the simplest way, and what follows from it.

use super::world::Time;
use crate::router::core::{Role, node::STOPPED_AFTER, observation::Report, table::Table};

/// A violated rule, and how it was violated.
#[derive(Debug)]
pub(super) struct Violation {
    pub(super) rule: Rule,
    pub(super) what: String,
}

/// The rules that must always hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// A strong call goes to the one writable node of the newest reported timeline, or to none.
    Strong,
    /// What is called fresh is.
    Fresh,
    /// Outliers are never more than their share of the replicas, and never the last one.
    NeverAll,
    /// A recovered node is used again.
    UsedAgain,
    /// The fallback stays within its budget.
    Budget,
    /// The node is known, belongs to the cluster, and was not tried yet.
    Known,
    /// A read goes to a replica.
    Replica,
    /// A call does not wait for a full node while another one qualifies.
    Full,
}

pub(super) fn broken(rule: Rule, what: impl Into<String>) -> Violation {
    Violation { rule, what: what.into() }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// It was there from the beginning, or has reported what it is since it was added.
    pub(super) has_joined: bool,
    pub(super) role: Option<Role>,
    pub(super) timeline: Option<u32>,
    pub(super) is_foreign: bool,
    /// It has become something else since it reported its timeline.
    is_unsettled: bool,
    /// When it first refused a connection since its last report.
    refused_since: Option<Time>,
    /// It has refused connections for so long that it is no rival until it reports anew what it is.
    is_stopped: bool,
    /// A report requested before this moment is outdated.
    outdated_before: Time,
}

#[derive(Debug)]
pub(super) struct Oracle {
    pub(super) told: Vec<Told>,
    newest: Option<u32>,
    /// The timelines of those nodes that took writes when they were dropped from the list.
    dropped: Vec<Option<u32>>,
}

impl Oracle {
    pub(super) fn new(count: usize) -> Self {
        let told = Told { has_joined: true, ..Told::default() };
        Self { told: vec![told; count], newest: None, dropped: Vec::new() }
    }

    pub(super) fn removed(&mut self, node: usize) {
        let told = std::mem::take(&mut self.told[node]);
        if told.has_joined && !told.is_foreign && !told.is_stopped && told.role == Some(Role::Primary) {
            self.dropped.push(told.timeline);
        }
    }

    pub(super) fn added(&mut self, node: usize) {
        self.told[node] = Told::default();
    }

    pub(super) fn reported(&mut self, node: usize, report: &Report) {
        let told = &mut self.told[node];
        // The simulator's cluster has this identifier.
        let is_foreign = report.system != Some(1);
        told.refused_since = None;
        if !is_foreign {
            self.newest = self.newest.max(report.timeline);
        }
        if report.sent_at.as_micros() as Time >= told.outdated_before {
            told.has_joined = true;
            told.is_foreign = is_foreign;
            told.role = Some(report.standing.role());
            told.timeline = report.timeline;
            told.is_unsettled = false;
            told.is_stopped = false;
        }
    }

    pub(super) fn role(&mut self, node: usize, role: Role, now: Time) {
        let told = &mut self.told[node];
        told.refused_since = None;
        let settings = if node == 0 { Role::Primary } else { Role::Replica };
        if told.role.unwrap_or(settings) != role {
            told.is_unsettled |= told.timeline.take().is_some();
            told.outdated_before = now;
        }
        told.role = Some(role);
    }

    pub(super) fn lost(&mut self, node: usize, now: Time) {
        self.told[node].outdated_before = now;
    }

    pub(super) fn refused(&mut self, node: usize, now: Time) {
        let told = &mut self.told[node];
        let since = *told.refused_since.get_or_insert(now);
        told.is_stopped |= now - since >= STOPPED_AFTER.as_micros() as Time;
    }

    /// The newest reported timeline, if this node has reported none of its own.
    pub(super) fn newest_beside(&self, node: usize) -> Option<u32> {
        self.newest.filter(|_| self.told[node].timeline.is_none())
    }

    /// Judges the target of a strong call.
    pub(super) fn judge_strong(&self, node: usize) -> Result<(), Violation> {
        let told = &self.told[node];
        let wrong = |what: &str| Err(broken(Rule::Strong, format!("a strong call to node {node}: {what}: {self:?}")));
        let takes_writes = |told: &Told| !told.is_foreign && !told.is_stopped && told.role == Some(Role::Primary);
        if told.is_foreign {
            return wrong("it belongs to another cluster");
        }
        if told.role == Some(Role::Replica) {
            return wrong("it is a replica");
        }
        match told.timeline {
            Some(_) if told.timeline != self.newest => wrong("its timeline is not the newest"),
            Some(_) => {
                let others = self.told.iter().enumerate().filter(|(other, _)| *other != node);
                let mut rivals = others.filter(|(_, told)| takes_writes(told) && told.timeline == self.newest);
                // Leaving it out has not stopped it.
                let is_rivalled = rivals.next().is_some() || self.dropped.contains(&self.newest);
                if is_rivalled { wrong("it is not the only one") } else { Ok(()) }
            }
            // Only the settings say anything about it.
            None if node == 0 && !told.is_unsettled => Ok(()),
            None => wrong("its timeline is not known"),
        }
    }

    /// Judges the ejections.
    pub(super) fn judge_ejections(&self, table: &Table, most_percent: usize) -> Result<(), Violation> {
        let entries = || table.replicas.filter_map(|node| table.entries[node].ejection);
        let outliers = entries().filter(|ejection| !ejection.cause.is_certain()).count();
        let replicas = table.replicas.len();
        if outliers > 0 && (outliers * 100 > replicas * most_percent || entries().count() == replicas) {
            // A replica that has left since makes the share of the others larger; ejecting must not.
            return Err(broken(Rule::NeverAll, format!("{outliers} outliers of {replicas} replicas are out")));
        }
        Ok(())
    }
}
