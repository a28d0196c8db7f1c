//! The suite is worth what it catches: deliberately broken stores, one rule at a time. Also requests that are refused
//! before any store gets them.

use std::time::Duration;

use mainstem::{
    AppendCondition, Appended, Error, ErrorKind, EventStore, Filter, Json, LoadOutcome, Mark, MemoryEventStore, Result,
    SaveOutcome, Saved, Snapshot, SnapshotKey, SnapshotStore,
    backend::{
        Answer, AppendRequest, BoxFuture, DeleteSnapshotRequest, LoadSnapshotRequest, QueryRequest,
        ReadAfterSnapshotRequest, SaveSnapshotRequest,
    },
    testing::event_store::snapshots::{Case, failures},
};
use serde_json::json;

use super::flawed::{FLAWS, FlawedStore};
use crate::support::event;

mod without_a_flaw {
    mainstem::snapshot_store_tests!(async { super::FlawedStore::new(None) });
}

#[test]
fn each_flaw_is_caught_by_the_cases_that_are_there_for_it() {
    let mut missed = Vec::new();
    for (flaw, cases) in FLAWS {
        for case in *cases {
            let named = Case::named(case).unwrap_or_else(|| panic!("there is no case {case}"));
            match named.outcome(async { FlawedStore::new(Some(*flaw)) }) {
                Ok(()) => missed.push(format!("{flaw:?} passes {case}")),
                Err(failure) => println!("{flaw:?}: {failure}\n"),
            }
        }
    }
    assert_eq!(missed, Vec::<String>::new());
}

#[test]
fn each_case_is_there_for_a_flaw() {
    let caught: Vec<&str> = FLAWS.iter().flat_map(|(_, cases)| *cases).copied().collect();
    let idle: Vec<_> = Case::all().iter().filter(|case| !caught.contains(&case.name())).collect();
    assert!(idle.is_empty(), "no flaw shows that these cases can fail: {idle:?}");
    assert!(failures(|| async { MemoryEventStore::new() }).is_empty());
}

#[test]
fn the_checklist_names_every_case_and_no_other() {
    let page = include_str!("../../../docs/checklist.md");
    let topics: Vec<&str> = Case::all().iter().map(Case::topic).collect();
    let named = page.split('`').filter(|text| text.split_once("::").is_some_and(|(topic, _)| topics.contains(&topic)));
    let mut named: Vec<&str> = named.collect();
    named.sort_unstable();
    named.dedup();
    let mut cases: Vec<String> = Case::all().iter().map(|case| format!("{case:?}")).collect();
    cases.sort_unstable();
    assert_eq!(named, cases);
}

/// What a store answers, or that it must not be asked.
#[derive(Clone, Debug, Default)]
struct Answers {
    log: MemoryEventStore,
    load: Option<Error>,
    save: Option<Error>,
    never_asked: bool,
}

impl Answers {
    fn asked<T>(&self, answer: Option<&Error>, run: impl FnOnce() -> BoxFuture<Result<T>>) -> BoxFuture<Result<T>>
    where
        T: Send + 'static,
    {
        assert!(!self.never_asked, "the store was asked");
        match answer.cloned() {
            Some(error) => Box::pin(async { Err(error) }),
            None => run(),
        }
    }
}

impl EventStore for Answers {
    fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>> {
        self.log.run_append(request)
    }

    fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>> {
        self.asked(None, || self.log.run_query(request))
    }
}

impl SnapshotStore for Answers {
    fn run_save_snapshot(&self, request: SaveSnapshotRequest) -> BoxFuture<Result<Saved>> {
        self.asked(self.save.as_ref(), || self.log.run_save_snapshot(request))
    }

    fn run_load_snapshot(&self, request: LoadSnapshotRequest) -> BoxFuture<Result<Option<Snapshot>>> {
        self.asked(self.load.as_ref(), || self.log.run_load_snapshot(request))
    }

    fn run_delete_snapshot(&self, request: DeleteSnapshotRequest) -> BoxFuture<Result<bool>> {
        self.asked(None, || self.log.run_delete_snapshot(request))
    }

    fn run_read_after_snapshot(&self, request: ReadAfterSnapshotRequest) -> BoxFuture<Result<Answer>> {
        self.asked(None, || self.log.run_read_after_snapshot(request))
    }
}

async fn append(store: &impl EventStore) -> Mark {
    store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap().last()
}

fn key() -> SnapshotKey {
    SnapshotKey::new("p", 1, &Filter::any_event())
}

#[tokio::test]
async fn invalid_snapshot_requests_are_refused_before_the_store_is_called() {
    let store = Answers { never_asked: true, ..Answers::default() };
    let mark = append(&store).await;
    let too_long = "x".repeat(SnapshotKey::MAX_NAME_LEN + 1);
    for name in ["", "\0", "a\0b", &too_long] {
        let key = SnapshotKey::new(name, 1, &Filter::any_event());
        let errors = [
            store.save_snapshot(&key, mark, &1).await.unwrap_err(),
            store.load_snapshot(&key).await.unwrap_err(),
            store.delete_snapshot(&key).await.unwrap_err(),
            store.project(&key, 0, |_, _| Ok(())).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name:?}");
            assert!(error.to_string().contains("name of"), "{error}");
        }
    }
    let too_large = "x".repeat(Json::MAX_LEN);
    let no_json = std::collections::HashMap::from([((1, 2), 3)]);
    let errors = [
        store.save_snapshot(&key(), mark, &too_large).await.unwrap_err(),
        store.save_snapshot(&key(), mark, "\0").await.unwrap_err(),
        store.save_snapshot(&key(), mark, &no_json).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("the state of \"p\" version 1"), "{error}");
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_asked_for_the_snapshot_fails_the_call_and_one_that_cannot_save_does_not() {
    for kind in [ErrorKind::Unavailable, ErrorKind::Schema, ErrorKind::Configuration, ErrorKind::Timeout] {
        let error = || Some(Error::new(kind, "no"));
        let store = Answers { load: error(), ..Answers::default() };
        append(&store).await;
        assert_eq!(store.project(&key(), 0, |_, _| Ok(())).await.unwrap_err().kind(), kind);

        let store = Answers { save: error(), ..Answers::default() };
        append(&store).await;
        let projected = store
            .project(&key(), 0, |count, _| {
                *count += 1;
                Ok(())
            })
            .save_every(1)
            .await
            .unwrap();
        assert_eq!(projected.state(), &1);
        let SaveOutcome::Failed(error) = projected.saved() else { panic!("{:?}", projected.saved()) };
        assert_eq!(error.kind(), kind);
    }
    // A snapshot of another history is none.
    let load = Some(Error::new(ErrorKind::LogDiverged, "lost"));
    let store = Answers { load, ..Answers::default() };
    append(&store).await;
    let projected = store
        .project(&key(), 0, |count, _| {
            *count += 1;
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(projected.state(), &1);
    assert!(matches!(projected.loaded(), LoadOutcome::Unusable(_)), "{:?}", projected.loaded());
    assert!(matches!(projected.saved(), SaveOutcome::Saved(Saved::Stored)), "{:?}", projected.saved());
}

#[tokio::test]
async fn a_state_that_cannot_be_saved_is_answered_all_the_same() {
    let store = Answers::default();
    append(&store).await;
    let grow = |state: &mut String, _: &_| {
        *state = "x".repeat(Json::MAX_LEN);
        Ok(())
    };
    let projected = store.project(&key(), String::new(), grow).save_every(1).await.unwrap();
    assert_eq!(projected.state().len(), Json::MAX_LEN);
    let SaveOutcome::Failed(error) = projected.saved() else { panic!("{:?}", projected.saved()) };
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[tokio::test]
async fn an_event_that_cannot_be_applied_ends_the_call_and_nothing_is_saved() {
    let store = Answers::default();
    append(&store).await;
    append(&store).await;
    let mut applied = 0;
    let apply = |_: &mut u64, event: &mainstem::Event| {
        applied += 1;
        if event.position() == 2 { event.payload().decode::<u64>().map(drop) } else { Ok(()) }
    };
    let error = store.project(&key(), 0, apply).save_every(1).await.unwrap_err();
    assert_eq!((error.kind(), applied), (ErrorKind::InvalidData, 2), "{error}");
    assert!(store.load_snapshot(&key()).await.unwrap().is_none());
}

/// Counts the saves, and says which limits it was given.
#[tokio::test]
async fn a_hundred_events_make_a_snapshot_and_the_save_has_a_limit_of_its_own() {
    #[derive(Clone, Debug)]
    struct Limits(MemoryEventStore);

    impl EventStore for Limits {
        fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>> {
            self.0.run_append(request)
        }
        fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>> {
            self.0.run_query(request)
        }
    }
    impl SnapshotStore for Limits {
        fn run_save_snapshot(&self, request: SaveSnapshotRequest) -> BoxFuture<Result<Saved>> {
            let message = format!("within {:?}", request.timeout);
            Box::pin(async { Err(Error::new(ErrorKind::Timeout, message)) })
        }
        fn run_load_snapshot(&self, request: LoadSnapshotRequest) -> BoxFuture<Result<Option<Snapshot>>> {
            assert!(request.timeout.is_none_or(|limit| limit <= Duration::from_secs(20)), "{request:?}");
            self.0.run_load_snapshot(request)
        }
        fn run_delete_snapshot(&self, request: DeleteSnapshotRequest) -> BoxFuture<Result<bool>> {
            self.0.run_delete_snapshot(request)
        }
        fn run_read_after_snapshot(&self, request: ReadAfterSnapshotRequest) -> BoxFuture<Result<Answer>> {
            self.0.run_read_after_snapshot(request)
        }
    }

    let store = Limits(MemoryEventStore::new());
    store.append((0..99).map(|_| event("A", json!({}))), AppendCondition::none()).await.unwrap();
    let project = || store.project(&key(), 0, |_, _| Ok(()));
    assert!(matches!(project().await.unwrap().saved(), SaveOutcome::NotDue));
    append(&store).await;
    let limit = Duration::from_secs(20);
    for (project, expected) in [
        (project(), "within Some(1s)"),
        (project().timeout(limit), "within Some(1s)"),
        (project().save_timeout(Duration::from_secs(3)), "within Some(3s)"),
    ] {
        let projected = project.await.unwrap();
        let SaveOutcome::Failed(error) = projected.saved() else { panic!("{:?}", projected.saved()) };
        assert_eq!(error.to_string(), expected);
    }
}
