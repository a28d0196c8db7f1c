//! Which partitions a member owns: claiming them, keeping them, and whether the log still contains their checkpoints.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::future::{Either, select};
use tokio::time::{Instant, sleep_until};

use super::{
    Consumer, ConsumerBatch,
    consumer::FIRST_PAUSE,
    heartbeat::{Heard, Heartbeat, MembershipState},
    trail::Trail,
};
use crate::{
    Consistency, Error, ErrorKind, Mark, Result,
    consume::start::ReadLimit,
    store::{After, Claimed, EventStore, Membership, Pulse, ReadAfterRequest, no_consumer},
};

/// A partition owned by this member.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) partition: i32,
    pub(super) epoch: i64,
    /// The place up to which its events have been delivered.
    pub(super) mark: Option<Mark>,
    /// The checkpoint at the claim, or the end of the last batch with events since: the next batch is saved only if this
    /// one still is.
    pub(super) needs: u64,
    pub(super) trail: Trail,
}

/// What a member owns from now on.
#[derive(Debug)]
pub(in crate::consume) struct Claim {
    /// Whether it owns any partition: otherwise other members work.
    pub(in crate::consume) is_owner: bool,
    /// Its checkpoint; of several partitions the lowest, or the place up to which events of a kept partition were
    /// delivered.
    pub(in crate::consume) handled: Option<Mark>,
    /// The position of the log's last event; 0 for a member that owns nothing, and so has not looked.
    pub(in crate::consume) head_position: u64,
}

/// What a consumer reports.
pub(in crate::consume) enum News {
    Batch(Box<ConsumerBatch>),
    /// The partitions that this member owns have changed.
    Claim(Claim),
}

impl Consumer {
    pub(super) fn must_rewind(&self) -> bool {
        self.rewinds.load(Ordering::Acquire) != self.rewound
    }

    /// Whether the partitions of this member may have changed.
    fn may_have_changed(&self) -> bool {
        let Some(heartbeat) = self.heartbeat.as_ref().filter(|heartbeat| !heartbeat.is_over()) else { return true };
        let Heard { state, safe_until } = heartbeat.heard();
        Instant::now() >= safe_until
            || match state {
                MembershipState::Joined => false,
                MembershipState::Gone | MembershipState::Lost => true,
                MembershipState::Member(Pulse { is_paused, owned, is_unfair, .. }) => {
                    is_unfair || is_paused != self.is_paused || owned != self.owned.len()
                }
            }
    }

    /// If the partitions of this member may have changed, asks for them. Returns them if they have changed.
    pub(super) async fn keep_claim(&mut self) -> Result<Option<Claim>> {
        if !self.must_claim && !self.must_rewind() && !self.may_have_changed() {
            return Ok(None);
        }
        self.must_claim = true;
        if let Some(at) = self.claim_at {
            let stopped = self.stop.stopped();
            if let Either::Right(_) = select(pin!(sleep_until(at)), stopped).await {
                return Ok(None);
            }
        }
        if self.heartbeat.as_ref().is_some_and(|it| matches!(it.heard().state, MembershipState::Lost)) {
            tracing::warn!(consumer = %self.member.consumer, "checkpoints were lost with a primary; going on from those that are there");
            self.rewind();
        }
        let claim = loop {
            let stopped = self.stop.stopped();
            // Dropped, it has changed nothing here, and is asked for again.
            match select(pin!(self.claim()), stopped).await {
                Either::Left((claimed, _)) => claimed?,
                Either::Right(_) => return Ok(None),
            }
            match self.is_checked {
                true => break None,
                false => match self.check_marks().await {
                    Ok(claim) => break Some(claim),
                    // As in `news`: for kept partitions, this asks for what was delivered, and not for the checkpoint.
                    Err(error) if error.kind() == ErrorKind::LogDiverged && !self.has_diverged => {
                        tracing::debug!(consumer = %self.member.consumer, error = %error.for_log(), "going on from the checkpoint");
                        self.has_diverged = true;
                        self.rewind();
                    }
                    Err(error) if error.kind() == ErrorKind::LogDiverged => {
                        return Err(self.with_last_common(error).await);
                    }
                    Err(error) => return Err(error),
                },
            }
        };
        (self.is_checked, self.must_claim, self.has_ended) = (true, false, false);
        (self.claim_pause, self.claim_at) = (FIRST_PAUSE, None);
        Ok(claim)
    }

    /// Asks which partitions this member owns, and continues from its checkpoints if it was rewound.
    async fn claim(&mut self) -> Result<()> {
        // A rewind that happens meanwhile is carried out next time.
        let rewinds = self.rewinds.load(Ordering::Acquire);
        let rewind = rewinds != self.rewound;
        with_metrics! {
            if rewind {
                crate::telemetry::metrics::consume::restarted(&self.member.consumer);
            }
        }
        let asked = Instant::now();
        self.may_be_member = true;
        let membership = self.join().await?;
        // Nothing is awaited between here and the check, so the state is never half updated.
        (self.has_joined, self.rewound, self.is_paused) = (true, rewinds, membership.is_paused);
        // Whoever replaces this one's filter later is not replaced in turn.
        self.member.accepts_change = false;
        self.own(membership.claimed, rewind);
        let saved = Arc::clone(&self.saved);
        self.heartbeat = Some(Heartbeat::start(self.store.clone(), self.member.clone(), asked, saved));
        Ok(())
    }

    /// Claims partitions, and creates the consumer if it runs for the first time.
    async fn join(&self) -> Result<Membership> {
        let mut membership = self.store.claim(&self.member, self.deadline()).await?;
        if membership.is_none() && !self.has_joined {
            let start = self.start.clone().resolve_to_mark(&self.store, ReadLimit::Each(self.plan.timeout)).await?;
            self.store.create_consumer(&self.member, start, self.deadline()).await?;
            membership = self.store.claim(&self.member, self.deadline()).await?;
        }
        membership.ok_or_else(|| no_consumer(&self.member.consumer))
    }

    /// Takes over the claimed partitions. Those it keeps continue after what was delivered.
    fn own(&mut self, claimed: Vec<Claimed>, rewind: bool) {
        let mut known = std::mem::take(&mut self.owned);
        let mut is_same = known.len() == claimed.len() && !rewind;
        let position = |checkpoint: &Option<Mark>| checkpoint.as_ref().map_or(0, Mark::position);
        let saved = claimed.iter().map(|claimed| position(&claimed.checkpoint)).min().unwrap_or_default();
        for Claimed { partition, epoch, checkpoint, past } in claimed {
            let at = known.iter().position(|owned| owned.partition == partition && owned.epoch == epoch && !rewind);
            is_same &= at.is_some();
            let owned = at.map(|at| known.swap_remove(at));
            // A failover may lose this checkpoint later: what follows must then not be saved on top of an older one.
            let needs = position(&checkpoint);
            let anew = || Owned { partition, epoch, mark: checkpoint, needs, trail: Trail::new(past) };
            self.owned.push(owned.unwrap_or_else(anew));
        }
        if !is_same {
            (self.subscription, self.quiet, self.is_checked) = (None, None, false);
            self.saved = Arc::new(AtomicU64::new(saved));
        }
    }

    /// Whether the log contains all checkpoints. Reading begins after the first of them, and checks only that one.
    async fn check_marks(&self) -> Result<Claim> {
        let mut seen: Vec<Option<Mark>> = Vec::new();
        let mut head_position = 0;
        for mark in self.owned.iter().map(|owned| owned.mark) {
            if seen.contains(&mark) {
                continue;
            }
            seen.push(mark);
            let (filter, after) = (self.plan.filter.clone(), mark.map_or(After::Beginning, After::Mark));
            let mut request = ReadAfterRequest::new(filter, after, 0, Consistency::Strong);
            request.timeout = self.plan.timeout;
            head_position = Mark::position_or_zero(self.store.run_read_after(request).await?.head);
        }
        let handled = seen.into_iter().min_by_key(|mark| Mark::position_or_zero(*mark));
        Ok(Claim { is_owner: !self.owned.is_empty(), handled: handled.flatten(), head_position })
    }

    /// Adds to the error up to where the log and this consumer agree, as far as it is known.
    pub(super) async fn with_last_common(&self, error: Error) -> Error {
        if error.last_common().is_some() {
            return error;
        }
        // For each partition separately: one may have reached what another has not.
        let mut common: Option<Option<Mark>> = None;
        for owned in &self.owned {
            let marks: Vec<Mark> = owned.trail.marks().iter().copied().chain(owned.mark).collect();
            let Ok(held) = self.store.last_held(&marks, self.deadline()).await else { return error };
            let position = Mark::position_or_zero;
            if common.is_none_or(|common| position(held) < position(common)) {
                common = Some(held);
            }
        }
        let what = match common.flatten() {
            Some(mark) => format!("the two agree up to {mark} at least"),
            None => "it is not known up to where the two agree".to_owned(),
        };
        let name = &self.member.consumer;
        let message =
            format!("{}; {what}; reset the consumer {name:?} to go on from there, or rebuild", error.message());
        error.reworded(ErrorKind::LogDiverged, message).with_last_common(common.flatten())
    }
}
