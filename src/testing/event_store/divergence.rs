//! A condition that is not based on this log is refused for that reason.

use super::fixture::{Store, append_if, append_one, log, none_of, of_type, plain, read, refused};
use crate::{AppendCondition, ErrorKind, EventId, Mark};

async fn all_diverge(store: Store<'_>, conditions: impl IntoIterator<Item = AppendCondition>) {
    let before = log(store).await;
    for condition in conditions {
        let error = refused(store, [plain("C")], condition, ErrorKind::LogDiverged).await;
        assert!(!error.is_conflict() && !error.is_retryable(), "{error}");
    }
    assert_eq!(log(store).await.events(), before.events(), "a refused append was written");
}

pub(super) async fn another_event_at_the_position_has_diverged(store: Store<'_>) {
    let first = append_one(store, "A").await.last();
    let second = append_one(store, "B").await.last();
    let guard = || none_of(&of_type("Z"));
    let elsewhere = [
        guard().after(Mark::new(first.position(), EventId::new())),
        guard().after(Mark::new(second.position(), EventId::new())),
        // Events of this log, each at the other's place.
        guard().after(Mark::new(second.position(), first.id())),
        guard().after(Mark::new(first.position(), second.id())),
    ];
    all_diverge(store, elsewhere).await;
    append_if(store, [plain("C")], guard().after(first)).await;
    append_if(store, [plain("C")], guard().after(second)).await;
}

pub(super) async fn what_is_beyond_the_head_has_diverged(store: Store<'_>) {
    append_one(store, "A").await;
    let head = append_one(store, "A").await.last();
    let guard = || none_of(&of_type("Z"));
    let beyond = [
        guard().after(Mark::new(head.position() + 1, head.id())),
        guard().after(Mark::new(head.position() + 1, EventId::new())),
        guard().after(Mark::new(u64::MAX, head.id())),
        guard().after_position(head.position() + 1),
        guard().after_position(head.position() + 1_000),
        guard().after_position(u64::MAX),
    ];
    all_diverge(store, beyond).await;
    append_if(store, [plain("C")], guard().after_position(head.position())).await;
}

pub(super) async fn an_empty_log_holds_nothing_to_go_on_from(store: Store<'_>) {
    let guard = || none_of(&of_type("Z"));
    let conditions = [guard().after(Mark::new(1, EventId::new())), guard().after_position(1)];
    all_diverge(store, conditions).await;
    append_if(store, [plain("A")], guard().after_position(0)).await;
}

pub(super) async fn divergence_is_told_before_conflict(store: Store<'_>) {
    let first = append_one(store, "A").await.last();
    append_one(store, "A").await;
    // A client that reads again finds the matching event; a conflict would not reveal that history was lost.
    let condition = none_of(&of_type("A")).after(Mark::new(first.position(), EventId::new()));
    all_diverge(store, [condition]).await;
    let history = read(store, &of_type("A")).await;
    append_if(store, [plain("A")], history.unchanged()).await;
}
