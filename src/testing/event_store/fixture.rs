//! What the cases share: short forms for events and filters, and calls that must succeed or be refused.

use serde_json::{Value, json};

use crate::{
    AppendCondition, Appended, Error, ErrorKind, Event, EventStore, Filter, History, NewEvent, Predicate, Result,
    Selection,
};

/// The store of a case: behind one more reference, for the methods that a trait object itself cannot have.
pub(super) type Store<'a> = &'a &'a dyn EventStore;

/// The value, or a failure of the case that says what did not work.
pub(super) fn expect<T>(result: Result<T>, what: &str) -> T {
    result.unwrap_or_else(|error| panic!("{what}: {}", error.report()))
}

/// An event without tags.
pub(super) fn event(event_type: &str, payload: Value) -> NewEvent {
    expect(NewEvent::new(event_type, &payload), "an event of the test")
}

/// An event of which only the type matters.
pub(super) fn plain(event_type: &str) -> NewEvent {
    event(event_type, json!({}))
}

/// An event of which only type and tags matter.
pub(super) fn tagged<const N: usize>(event_type: &str, tags: [&str; N]) -> NewEvent {
    plain(event_type).with_tags(tags)
}

pub(super) fn of_type(event_type: &str) -> Filter {
    of_types([event_type])
}

pub(super) fn of_types<const N: usize>(types: [&str; N]) -> Filter {
    expect(Filter::matching().any_type_of(types).finish(), "a filter of the test")
}

pub(super) fn with_tags<const N: usize>(tags: [&str; N]) -> Filter {
    expect(Filter::matching().all_tags_of(tags).finish(), "a filter of the test")
}

pub(super) fn with_predicate(predicate: Predicate) -> Filter {
    expect(Filter::matching().any_predicate_of([predicate]).finish(), "a filter of the test")
}

/// The condition that no event matches at all.
pub(super) fn none_of(filter: &Filter) -> AppendCondition {
    AppendCondition::fail_if_events_match(filter.clone())
}

/// Appends without a condition.
pub(super) async fn append(store: Store<'_>, events: impl IntoIterator<Item = NewEvent>) -> Appended {
    append_if(store, events, AppendCondition::none()).await
}

/// Appends under a condition that holds.
pub(super) async fn append_if(
    store: Store<'_>,
    events: impl IntoIterator<Item = NewEvent>,
    condition: AppendCondition,
) -> Appended {
    let what = format!("an append under {condition:?} should have been written");
    expect(store.append(events, condition).await, &what)
}

/// Appends one event of this type.
pub(super) async fn append_one(store: Store<'_>, event_type: &str) -> Appended {
    append(store, [plain(event_type)]).await
}

/// Tries what must be refused with this kind of error.
pub(super) async fn refused(
    store: Store<'_>,
    events: impl IntoIterator<Item = NewEvent>,
    condition: AppendCondition,
    kind: ErrorKind,
) -> Error {
    let what = format!("{condition:?}");
    match store.append(events, condition).await {
        Ok(appended) => panic!("written at {:?} instead of refused as {kind:?}, under {what}", appended.positions()),
        Err(error) => {
            assert_eq!(error.kind(), kind, "refused for another reason, {error}, under {what}");
            error
        }
    }
}

pub(super) async fn read<S: Selection>(store: Store<'_>, selection: &S) -> History<S> {
    expect(store.query(selection).await, "a query should have been answered")
}

/// The whole log.
pub(super) async fn log(store: Store<'_>) -> History {
    read(store, &Filter::any_event()).await
}

pub(super) fn positions(events: &[Event]) -> Vec<u64> {
    events.iter().map(Event::position).collect()
}

pub(super) fn types(events: &[Event]) -> Vec<&str> {
    events.iter().map(Event::event_type).collect()
}

/// These events as the log should return them. Only the log knows when it recorded them.
pub(super) fn recorded(events: &[NewEvent], first_position: u64, read: &[Event]) -> Vec<Event> {
    assert_eq!(read.len(), events.len(), "as many events as were appended");
    let positions = first_position..;
    let recorded = events.iter().zip(positions).zip(read);
    recorded.map(|((event, position), read)| event.clone().into_recorded(position, read.recorded_at())).collect()
}
