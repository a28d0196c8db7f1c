//! Every text that comes from outside and gets near SQL, one by one: where it goes, and that it is only text there. Each is stored and
//! found as it is, or refused with a typed error; what it would do as SQL has not happened.
//!
//! | place | where it goes |
//! |---|---|
//! | type, tags, payload, metadata, content type, ids of messages | arguments of the append procedure |
//! | types, tags, paths, values and documents of filters | arguments of all reads, of conditions, and of their explanation |
//! | id of a fixed stream | an argument of appends and of loads |
//! | name and state of a snapshot | arguments |
//! | name of a consumer, its member, what was skipped and why | arguments |
//! | id, type, data and refusal of a command | an event, and a filter for its id |
//! | schema and log | spliced into all statements, quoted; into the body of the procedure, and so without `'`, `$` and `\` |
//! | path of a hot key | spliced into an index and into reads, as a constant whose characters are escaped |
//! | role that gets a grant | spliced, quoted |
//! | `application_name` | a parameter of the log-in |
//! | tokens, cursors | parsed; what is not a token gets nowhere |
//!
//! Notification channels are digests of a log's name, and their payload is a number.

mod commands;
mod reads;

use std::time::Duration;

use mainstem::{
    AppendCondition, Consistency, ConsumerTransaction, Cursor, Error, ErrorKind, Event, EventStore, ExpectedVersion,
    Filter, LogName, NewEvent, Payload, PoisonPolicy, PostgresEventStore, Predicate, ReadModel, ReadModels, Result,
    Router, SnapshotKey, SnapshotStore, Token,
    schema::{Access, HotKey, LogIndex},
};
use serde_json::json;
use tokio::time::timeout;

use crate::support::{event, store};

const HANG: Duration = Duration::from_secs(60);

/// Each ends what it might be put into, does its harm, and makes the rest a comment.
const HARM: &str = "DROP TABLE public.canary; --";
const OPENINGS: [&str; 12] = [
    "'; ",
    "\"; ",
    "'); ",
    "\"); ",
    "$$; ",
    "$body$; ",
    "\\'; ",
    "*/; ",
    "\n; ",
    "'::text); ",
    "}'; ",
    "\u{2019}'\"\\; ",
];

fn attempts() -> impl Iterator<Item = String> {
    OPENINGS.into_iter().map(|opening| format!("{opening}{HARM}"))
}

/// An outcome that is allowed: it was taken, or refused as an input.
fn taken(place: &str, text: &str, outcome: Result<(), Error>) -> bool {
    match outcome {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{place}: {text:?}: {}", error.report());
            false
        }
    }
}

async fn is_unharmed(router: &Router, place: &str, text: &str) {
    let row = router.client().await.unwrap().query_one("SELECT count(*) FROM public.canary", &[]).await;
    let row = row.unwrap_or_else(|error| panic!("{place}: {text:?}: {}", error.report()));
    assert_eq!(row.get::<_, i64>(0), 1, "{place}: {text:?}");
}

async fn events(store: &PostgresEventStore, text: &str) -> Result<()> {
    let of = |predicate| Filter::matching().any_predicate_of([predicate]).finish();
    let json_event = event(text, json!({text: {text: text}, "value": text}))
        .with_tags([text, "tag"])
        .with_metadata(&json!({text: text}))?
        .with_message_id(text)
        .with_causation_id(text)
        .with_correlation_id(text);
    // A content type is printable ASCII.
    let content_type: String = text.chars().filter(|character| matches!(character, ' '..='~')).collect();
    let bytes = NewEvent::from_payload(text, Payload::bytes(content_type, text.as_bytes())).with_tag("bytes");
    let written = store.append([json_event, bytes], AppendCondition::none()).await?;
    let filters = [
        Filter::matching().any_type_of([text]).finish()?,
        Filter::matching().all_tags_of([text, "tag"]).finish()?,
        of(Predicate::payload("value", text))?,
        of(Predicate::payload([text, text], text))?,
        of(Predicate::metadata(text, text))?,
        of(Predicate::payload_contains(&json!({text: {text: text}})))?,
    ];
    for filter in filters {
        let history = store.query(&filter).await?;
        assert!(history.iter().any(|event| event.position() == written.first_position()), "{filter:?}");
        let condition = AppendCondition::fail_if_events_match(filter.clone());
        for condition in [condition.clone(), condition.after_position(0)] {
            assert!(store.append([event("B", json!({}))], condition).await.unwrap_err().is_conflict(), "{filter:?}");
        }
        assert!(store.count(&filter).await?.into_inner() >= 1);
    }
    Ok(())
}

async fn stream(store: &PostgresEventStore, text: &str) -> Result<()> {
    let append = store.append([event("A", json!({}))], AppendCondition::none());
    append.to_stream(text, ExpectedVersion::NoStream).await?;
    let loaded = store.load_stream(text).await?;
    assert_eq!((loaded.id(), loaded.version()), (text, 1));
    Ok(())
}

async fn snapshot(store: &PostgresEventStore, text: &str) -> Result<()> {
    let mark = store.append([event("A", json!({}))], AppendCondition::none()).await?.last();
    let key = SnapshotKey::new(text, 1, &Filter::any_event());
    store.save_snapshot(&key, mark, &json!({text: text})).await?;
    assert!(store.load_snapshot(&key).await?.is_some());
    assert!(store.delete_snapshot(&key).await?);
    Ok(())
}

async fn consumer(store: &PostgresEventStore, text: &str) -> Result<()> {
    store.append([event("A", json!({})).with_tag(text)], AppendCondition::none()).await?;
    let tagged = Filter::matching().all_tags_of([text]).finish()?;
    let builder = store
        .consumer(text, &tagged)
        .consistency(Consistency::Strong)
        .partitions(3, |event| event.tags().next().map(Into::into));
    let mut consumer = builder.build()?;
    let batch = timeout(HANG, async {
        loop {
            let batch = consumer.next_batch().await.expect("it goes on")?;
            if !batch.is_empty() {
                return Ok::<_, Error>(batch);
            }
            consumer.commit(&batch).await?;
        }
    });
    let batch = batch.await.expect("a batch")?;
    consumer.commit(&batch).await?;
    let control = store.consumer_control(text);
    control.pause().await?;
    assert!(control.status().await?.is_paused());
    control.resume().await?;
    control.delete().await
}

/// Applies nothing, and says why in hostile words: these are kept.
struct Refuser(String);

impl ReadModel for Refuser {
    fn name(&self) -> String {
        self.0.clone()
    }

    fn filter(&self) -> Result<Filter> {
        Filter::matching().all_tags_of([&*self.0]).finish()
    }

    async fn clear(&mut self, _: &ConsumerTransaction) -> Result<()> {
        Ok(())
    }

    async fn apply(&mut self, _: &Event, _: &ConsumerTransaction) -> Result<()> {
        Err(Error::new(ErrorKind::InvalidInput, self.0.clone()))
    }
}

async fn projection(store: &PostgresEventStore, text: &str) -> Result<()> {
    store.append([event("A", json!({})).with_tag(text)], AppendCondition::none()).await?;
    let builder = ReadModels::builder(store)
        .poison_policy(PoisonPolicy::skip().retries(0, Duration::ZERO))
        .consistency(Consistency::Strong);
    let projections = builder.with(Refuser(text.to_owned()))?.start()?;
    let control = store.consumer_control(text);
    let skipped = timeout(HANG, async {
        loop {
            match control.skipped(10).await {
                Ok(skipped) if !skipped.is_empty() => return skipped,
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::Configuration, "{}", error.report()),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let skipped = skipped.await.expect("it is skipped");
    assert!(format!("{skipped:?}").contains("canary"));
    drop(projections);
    Ok(())
}

async fn log(router: &Router, schema: &str, log: &str) -> Result<()> {
    let store = PostgresEventStore::with_name(router, LogName::new(schema, log)?);
    store.migrate().await?;
    let written = store.append([event("A", json!({}))], AppendCondition::none()).await?;
    assert!(
        store
            .append([event("A", json!({}))], AppendCondition::fail_if_events_match(Filter::any_event()))
            .await
            .is_err()
    );
    assert_eq!(store.query(&Filter::any_event()).await?.len(), 1);
    let key = SnapshotKey::new("p", 1, &Filter::any_event());
    store.save_snapshot(&key, written.last(), &1).await?;
    store.check().await?;
    Ok(())
}

async fn hot_key(router: &Router, store: &PostgresEventStore, text: &str) -> Result<()> {
    for key in [HotKey::payload([text, "b"])?, HotKey::metadata(text)?] {
        let index = LogIndex::key(key.clone());
        store.create_index(&index).await?;
        let by_key = PostgresEventStore::builder(router).hot_keys([key]).build();
        let payload = json!({text: {"b": text}});
        let one = event("A", payload).with_metadata(&json!({text: text}))?;
        let position = by_key.append([one], AppendCondition::none()).await?.first_position();
        for predicate in [Predicate::payload([text, "b"], text), Predicate::metadata(text, text)] {
            let filter = Filter::matching().any_predicate_of([predicate]).finish()?;
            let history = by_key.query(&filter.clone().after_position(position - 1)).await?;
            assert_eq!(history.len(), 1);
            let condition = AppendCondition::fail_if_events_match(filter).after_position(position - 1);
            assert!(by_key.append([event("B", json!({}))], condition).await.unwrap_err().is_conflict());
        }
        store.drop_index(&index).await?;
    }
    Ok(())
}

async fn role(router: &Router, text: &str) -> Result<()> {
    let client = router.client().await?;
    let quoted = format!("\"{}\"", text.replace('"', "\"\""));
    client.batch_execute(&format!("CREATE ROLE {quoted}")).await?;
    for access in [Access::Reader, Access::Consumer, Access::Writer, Access::Migrator] {
        client.batch_execute(&LogName::default().grants(access, text)?).await?;
    }
    client.batch_execute(&format!("DROP OWNED BY {quoted}; DROP ROLE {quoted}")).await
}

async fn application_name(url: &str, text: &str) -> Result<()> {
    let name: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let separator = if url.contains('?') { '&' } else { '?' };
    let router = Router::builder().primary(format!("{url}{separator}application_name={name}")).connect().await?;
    let sql = "SELECT current_setting('application_name')";
    let told: String = router.client().await?.query_one(sql, &[]).await?.get(0);
    // What is no printable ASCII the server replaces, and it cuts at 63 bytes.
    assert!(told.contains(HARM), "{told}");
    Ok(())
}

#[tokio::test]
async fn hostile_text_that_reaches_sql_is_never_executed() {
    let (database, router, store) = store().await;
    let admin = router.client().await.unwrap();
    admin.batch_execute("CREATE TABLE public.canary AS SELECT 1 AS n").await.unwrap();
    drop(admin);
    let mut places = Vec::new();
    for text in attempts() {
        let short: String = text.chars().take(40).collect();
        let outcomes = [
            ("events and filters", events(&store, &text).await),
            ("import", reads::import(&store, &text).await),
            ("reads", reads::read(&store, &text).await),
            ("explanation", reads::explain(&store, &text).await),
            ("subscription", reads::subscribe(&store, &text).await),
            ("command", commands::command(&store, &text).await),
            ("stream", stream(&store, &text).await),
            ("snapshot", snapshot(&store, &text).await),
            ("consumer", consumer(&store, &text).await),
            ("projection", projection(&store, &format!("{text} of a projection")).await),
            ("schema", log(&router, &text, "events").await),
            ("log", log(&router, "other", &short).await),
            ("hot key", hot_key(&router, &store, &text).await),
            ("role", role(&router, &text).await),
            ("application_name", application_name(&database.primary_url(), &text).await),
            ("token", text.parse::<Token>().map(drop)),
            ("cursor", text.parse::<Cursor>().map(drop)),
        ];
        for (place, outcome) in outcomes {
            let why = outcome.as_ref().err().map(ToString::to_string).unwrap_or_default();
            places.push((place, taken(place, &text, outcome), why));
            is_unharmed(&router, place, &text).await;
        }
    }
    // What is refused, and not only sometimes taken, is what the table says.
    let refusing = ["schema", "log", "token", "cursor"];
    for place in places.iter().map(|(place, ..)| place).filter(|place| !refusing.contains(place)) {
        let refused: Vec<_> = places.iter().filter(|(name, taken, _)| name == place && !taken).collect();
        assert!(refused.is_empty(), "{refused:?}");
    }
    for place in ["token", "cursor"] {
        assert!(places.iter().all(|(name, taken, _)| *name != place || !*taken), "{place} is taken");
    }
    for place in ["schema", "log"] {
        assert!(places.iter().any(|(name, taken, _)| *name == place && *taken), "{place}: no name is taken");
        assert!(places.iter().any(|(name, taken, _)| *name == place && !*taken), "{place}: no name is refused");
    }
}
