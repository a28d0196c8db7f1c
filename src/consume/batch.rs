//! What a subscription delivers at a time.

use std::sync::Arc;

use crate::{
    Event, Mark, Role,
    store::{Piece, event_list},
};

/// The next events of a subscription, in log order. It dereferences to a slice of them.
///
/// The log has no other matching events between these, nor from the last one up to the [mark](Self::mark). A batch
/// without events is therefore informative too: there is nothing up to its mark.
#[derive(Clone, Debug)]
pub struct Batch {
    events: Vec<Event>,
    mark: Mark,
    head: u64,
    node: Arc<str>,
    role: Role,
}

impl Batch {
    /// `None` for a piece that is no step forward.
    pub(super) fn new(piece: Piece) -> Option<Self> {
        let Piece { events, reached, head, node, role, .. } = piece;
        let mark = reached?;
        Some(Self { events, mark, head: Mark::position_or_zero(head), node, role })
    }

    /// Returns the events.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Converts the batch into its events.
    #[must_use]
    pub fn into_events(self) -> Vec<Event> {
        self.events
    }

    /// Returns the place that was reached, whether its event matches or not: after handling this batch, continue from
    /// here.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// Returns the position of the log's last event when this batch was read.
    #[must_use]
    pub fn head_position(&self) -> u64 {
        self.head
    }

    /// Returns how many events of the log were after this batch when it was read, matching or not. 0 for live events.
    #[must_use]
    pub fn events_behind(&self) -> u64 {
        self.head.saturating_sub(self.mark.position())
    }

    /// Returns the name of the node that served it.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Returns the role of that node.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Its first events, up to the last of which it then reaches; `None` for no events.
    pub(super) fn first(&self, count: usize) -> Option<Self> {
        let events = self.events.iter().take(count).cloned().collect::<Vec<_>>();
        let mark = events.last()?.mark();
        Some(Self { events, mark, head: self.head, node: Arc::clone(&self.node), role: self.role })
    }

    pub(super) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    pub(super) fn with_events(mut self, events: Vec<Event>) -> Self {
        self.events = events;
        self
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&Event) -> bool) {
        self.events.retain(keep);
    }
}

event_list!(Batch);
