//! The other ways in which a filter or an event reaches the server.

use futures_util::StreamExt;
use mainstem::{
    AppendCondition, Consistency, EventStore, Filter, PostgresEventStore, Predicate, Result, Start, Subscribe,
};
use serde_json::json;
use tokio::time::timeout;

use super::HANG;
use crate::support::event;

/// Filters that match an event of [`written`], each with the text in another place.
fn filters(text: &str) -> Result<[Filter; 6]> {
    let of = |predicate| Filter::matching().any_predicate_of([predicate]).finish();
    Ok([
        Filter::matching().any_type_of([text]).finish()?,
        Filter::matching().all_tags_of([text]).finish()?,
        of(Predicate::payload_contains(&json!({text: [{text: text}]})))?,
        of(Predicate::metadata_contains(&json!({text: {text: [text]}})))?,
        of(Predicate::metadata([text, "of"], text))?,
        Filter::matching()
            .any_type_of([text])
            .and_all_tags_of([text])
            .and_all_predicates_of([Predicate::metadata_contains(&json!({text: {}}))])
            .finish()?,
    ])
}

/// An import of three events, in chunks of two.
pub(super) async fn import(store: &PostgresEventStore, text: &str) -> Result<()> {
    let one = || {
        let payload = json!({text: [{text: text}]});
        event(text, payload).with_tag(text).with_metadata(&json!({text: {text: [text], "of": text}}))
    };
    let events = [one()?, one()?, one()?];
    let never =
        AppendCondition::fail_if_events_match(Filter::matching().all_tags_of([format!("{text} never")]).finish()?);
    let imported =
        store.import(events.clone(), never.clone()).chunk_events(2).lock_time(std::time::Duration::MAX).await?;
    assert_eq!((imported.events, imported.repeated), (3, 0));
    let again = store.import(events, never).chunk_events(2).lock_time(std::time::Duration::MAX).await?;
    assert_eq!((again.last, again.repeated), (imported.last, 3));
    Ok(())
}

/// What was imported is found, whatever asks for it.
pub(super) async fn read(store: &PostgresEventStore, text: &str) -> Result<()> {
    for filter in filters(text)? {
        assert!(*store.exists(&filter).await?, "{filter:?}");
        assert!(store.last(&filter).await?.as_ref().is_some_and(|event| filter.matches(event)), "{filter:?}");
        let streamed: Vec<_> = store.query_stream(&filter).collect().await;
        assert!(streamed.len() >= 3 && streamed.iter().all(Result::is_ok), "{filter:?}");
        let page = store.fetch(&filter, Start::Beginning).limit(2).await?;
        assert_eq!(page.events().len(), 2, "{filter:?}");
        let rest = store.fetch(&filter, page.events()[1].mark()).limit(1).await?;
        assert_eq!(rest.events().len(), 1, "{filter:?}");
    }
    // The type alone is on events of others, too.
    let other = Filter::matching().all_tags_of([format!("{text}\u{1}")]).finish()?;
    assert!(!*store.exists(&other).await?);
    Ok(())
}

pub(super) async fn explain(store: &PostgresEventStore, text: &str) -> Result<()> {
    for filter in filters(text)? {
        let condition = AppendCondition::fail_if_events_match(filter);
        for condition in [condition.clone(), condition.after_position(1)] {
            assert!(!store.explain_condition(&condition).await?.text().is_empty());
        }
    }
    Ok(())
}

pub(super) async fn subscribe(store: &PostgresEventStore, text: &str) -> Result<()> {
    for filter in filters(text)? {
        let mut subscription = store.subscribe(&filter).consistency(Consistency::Strong).build();
        let next = timeout(HANG, subscription.next()).await.expect("an event").expect("it goes on")?;
        assert!(filter.matches(&next), "{filter:?}");
        subscription.stop_handle().stop();
    }
    Ok(())
}
