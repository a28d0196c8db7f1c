//! What a subscription hands out at a time.

use std::{ops::Deref, sync::Arc};

use crate::{Event, Mark, Role, store::Piece};

/// The next events of a subscription, in the order of the log. It dereferences to the slice of them.
///
/// Between its events, and from the last one up to its [mark](Self::mark), the log has no others that match. So one
/// without events tells something, too: that there is nothing up to its mark.
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
        Some(Self { events, mark, head: head.map_or(0, |head| head.position()), node, role })
    }

    /// The events.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The events themselves.
    #[must_use]
    pub fn into_events(self) -> Vec<Event> {
        self.events
    }

    /// The place that has been reached, whether its event matches or not: who has handled this batch goes on from here.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// The position of the log's last event when this was read.
    #[must_use]
    pub fn head_position(&self) -> u64 {
        self.head
    }

    /// How many events of the log were behind this batch when it was read, whether they match or not. 0 for what is live.
    #[must_use]
    pub fn events_behind(&self) -> u64 {
        self.head.saturating_sub(self.mark.position())
    }

    /// The name of the node that served it.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The role of that node.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
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

impl Deref for Batch {
    type Target = [Event];

    fn deref(&self) -> &[Event] {
        &self.events
    }
}

impl IntoIterator for Batch {
    type Item = Event;
    type IntoIter = std::vec::IntoIter<Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.events.into_iter()
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = &'a Event;
    type IntoIter = std::slice::Iter<'a, Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.events.iter()
    }
}
