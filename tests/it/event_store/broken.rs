//! The suite is worth what it catches: deliberately broken stores, one rule at a time.

use mainstem::{
    AppendCondition, ErrorKind, EventId, EventStore, ExpectedVersion, Filter, Mark, NewEvent, Payload, StreamPlace,
    testing::event_store::{Case, Failure},
};
use serde_json::json;

use super::{
    flawed::{FlawedStore, NeverAsked},
    flaws::{FLAWS, Flaw},
};
use crate::support::event;

mod without_a_flaw {
    mainstem::event_store_tests!(async { super::FlawedStore::new(None) });
}

fn outcome(case: &str, flaw: Flaw) -> Result<(), Failure> {
    let case = Case::named(case).unwrap_or_else(|| panic!("there is no case {case}"));
    case.outcome(async { FlawedStore::new(Some(flaw)) })
}

/// Races are lost by chance, on a busy machine less often.
const TRIES: usize = 5;

#[test]
fn each_flaw_is_caught_by_the_cases_that_are_there_for_it() {
    let mut missed = Vec::new();
    for (flaw, cases) in FLAWS {
        for case in *cases {
            let caught = (0..TRIES).map(|_| outcome(case, *flaw)).find(Result::is_err);
            match caught.unwrap_or(Ok(())) {
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
}

#[tokio::test]
async fn invalid_appends_are_refused_before_the_store_is_called() {
    let valid = event("A", json!({}));
    let twice = [valid.clone(), valid.clone()];
    let long_type = NewEvent::new("x".repeat(256), &()).unwrap();
    let bytes: std::sync::Arc<[u8]> = vec![0; Payload::MAX_BYTES_LEN].into();
    let too_much = (0..5).map(|_| NewEvent::from_payload("A", Payload::bytes("a", bytes.clone()))).collect();
    let no_place = valid.clone().with_metadata_json(mainstem::Json::from_text("[]").unwrap()).with_message_id("m");
    let cases: [(&str, Vec<NewEvent>); 8] = [
        ("more than 64 MiB, of bytes", too_much),
        ("no content type", vec![NewEvent::from_payload("A", Payload::bytes("", *b""))]),
        ("an id that has no place", vec![no_place]),
        ("nothing", vec![]),
        ("one id twice", twice.into()),
        ("an empty type", vec![event("", json!({}))]),
        ("an empty tag", vec![valid.clone().with_tag("")]),
        ("a type that is too long", vec![valid, long_type]),
    ];
    for (what, events) in cases {
        for condition in [AppendCondition::none(), AppendCondition::fail_if_events_match(Filter::any_event())] {
            let error = NeverAsked.append(events.clone(), condition).await.expect_err(what);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{what}");
        }
    }
}

#[tokio::test]
async fn an_after_without_a_filter_is_refused_before() {
    let after = || AppendCondition::none().after(Mark::new(1, EventId::new()));
    for condition in [after(), AppendCondition::none().after_position(0)] {
        let append = NeverAsked.append([event("A", json!({}))], condition.clone()).await;
        let import = NeverAsked.import([event("A", json!({}))], condition).await;
        for error in [append.expect_err("an append"), import.expect_err("an import")] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("would guard nothing"), "{error}");
        }
    }
}

#[tokio::test]
async fn invalid_stream_ids_are_refused_before_the_store_is_called() {
    for id in ["", "a\0b", &"x".repeat(StreamPlace::MAX_ID_LEN + 1)] {
        let append = NeverAsked.append([event("A", json!({}))], AppendCondition::none());
        let error = append.to_stream(id, ExpectedVersion::Any).await.expect_err(id);
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{id:?}");
        assert!(error.to_string().contains("stream id"), "{error}");
        assert_eq!(NeverAsked.load_stream(id).await.expect_err(id).kind(), ErrorKind::InvalidInput, "{id:?}");
    }
    let nothing = NeverAsked.append([], AppendCondition::none()).to_stream("s", ExpectedVersion::Exact(1));
    assert_eq!(nothing.await.expect_err("nothing").kind(), ErrorKind::InvalidInput);
}

#[test]
fn the_checklist_names_every_case_and_no_other() {
    let page = include_str!("../../../docs/checklist.md");
    let topics: Vec<&str> = Case::all().iter().map(Case::topic).collect();
    let named: Vec<&str> = page
        .split('`')
        .filter(|text| text.split_once("::").is_some_and(|(topic, _)| topics.contains(&topic)))
        .collect();
    let cases: Vec<String> = Case::all().iter().map(|case| format!("{}::{}", case.topic(), case.name())).collect();
    let unknown: Vec<_> = named.iter().filter(|name| !cases.iter().any(|case| case == *name)).collect();
    assert!(unknown.is_empty(), "the page names cases that do not exist: {unknown:?}");
    let missing: Vec<_> = cases.iter().filter(|case| !named.contains(&case.as_str())).collect();
    assert!(missing.is_empty(), "the page does not name {missing:?}");
}

/// The pages name tests of `tests/it` as `file::test` or `folder::file::test`.
#[test]
fn the_pages_name_tests_that_exist() {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut named = 0;
    let mut missing = Vec::new();
    for page in ["docs/checklist.md", "docs/guarantees.md", "README.md"] {
        let text = std::fs::read_to_string(format!("{root}/{page}")).expect("the page");
        for name in text.split('`') {
            let Some((file, test)) = name.rsplit_once("::") else { continue };
            let path = format!("{root}/tests/it/{}.rs", file.replace("::", "/"));
            let Ok(source) = std::fs::read_to_string(path) else { continue };
            // A topic of a suite may have the name of a file.
            let of_snapshots = include_str!("../../../src/testing/event_store/snapshots/list.rs");
            let is_case = Case::all().iter().any(|case| case.topic() == file && case.name() == test)
                || of_snapshots.contains(&format!(" {test}: "));
            let is_test = ["fn", "mod"]
                .iter()
                .any(|item| [";", "(", " {"].iter().any(|end| source.contains(&format!("{item} {test}{end}"))));
            named += 1;
            if !is_case && !is_test {
                missing.push(format!("{page}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "there are no such tests: {missing:?}");
    assert!(named > 150, "the pages name {named} tests");
}
