//! What a store must support.

use std::future::Future;

use super::{Draft, Opening, Outcome, Recorded};

pub(crate) trait Store: Sized + Send + Sync + 'static {
    type Client: Client;

    fn open(opening: &Opening) -> impl Future<Output = Outcome<Self>> + Send;

    /// Creates its tables, if it has any.
    fn prepare(&self) -> impl Future<Output = Outcome> + Send;

    /// Writes the fixture's events, for stores that the bench cannot fill by SQL.
    fn fill(&self) -> impl Future<Output = Outcome> + Send {
        async { Err("the bench fills this store by SQL".into()) }
    }

    /// This many clients, and as many connections if each client of this store has one.
    fn clients(&self, count: u64) -> impl Future<Output = Outcome<Vec<Self::Client>>> + Send;
}

pub(crate) trait Client: Send + 'static {
    /// What a decision is based on: a position, a version, a mark.
    type Known: Clone + Send + Sync;
    /// A place in the store's order, to read on from.
    type Place: Send;
    type Event: Recorded;

    /// The boundary's events after what is known, or all of them; and what is known after that.
    fn read(
        &mut self,
        book: &str,
        known: Option<&Self::Known>,
    ) -> impl Future<Output = Outcome<(Vec<Self::Event>, Self::Known)>> + Send;

    /// Appends to the boundary if it has no event after what is known or, if nothing is known, if it has no event at all.
    /// Otherwise returns false.
    fn append(
        &mut self,
        book: &str,
        known: Option<&Self::Known>,
        drafts: Vec<Draft>,
    ) -> impl Future<Output = Outcome<bool>> + Send;

    /// All events after a place, in the store's order; and the place of the last one.
    fn read_all(
        &mut self,
        behind: Option<&Self::Place>,
        each: impl FnMut(Self::Event) -> Outcome + Send,
    ) -> impl Future<Output = Outcome<Option<Self::Place>>> + Send;
}
