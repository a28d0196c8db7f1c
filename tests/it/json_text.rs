//! JSON comes back as the text that `jsonb` makes of it, from PostgreSQL and from memory: what decodes from one decodes from the
//! other.

use mainstem::{AppendCondition, EventStore, Filter, Json, MemoryEventStore, NewEvent};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

use crate::support::store;

const DOCUMENTS: usize = 400;

/// Documents as texts, since what is looked at is how they are written.
fn document() -> impl Strategy<Value = String> {
    let number = "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,12})?([eE][+-]?[0-9]{1,2})?";
    let text = "\"([a-zA-Z é😀/\u{7f}]|\\\\[\"\\\\/bfnrt]|\\\\u00[0-7][1-9a-fA-F]|\\\\ud83d\\\\ude00){0,6}\"";
    let scalar = prop_oneof![Just("null".to_owned()), Just("true".to_owned()), number, text];
    // Few keys, so that some come twice.
    let key = prop_oneof!["\"[abé]{0,3}\"", Just("\"\\u0061\"".to_owned())];
    let space = prop_oneof![Just(""), Just(" "), Just("\n\t")];
    scalar.prop_recursive(3, 24, 4, move |inner| {
        let members = prop::collection::vec((key.clone(), inner.clone()), 0..5);
        prop_oneof![
            (prop::collection::vec(inner, 0..5), space.clone())
                .prop_map(|(elements, space)| format!("[{}]", elements.join(&format!("{space},")))),
            (members, space.clone()).prop_map(|(members, space)| {
                let members: Vec<_> =
                    members.iter().map(|(key, value)| format!("{key}{space}:{space}{value}")).collect();
                format!("{{{space}{}}}", members.join(","))
            }),
        ]
    })
}

#[tokio::test]
async fn memory_gives_back_the_text_that_the_server_gives_back() {
    let (_database, _router, store) = store().await;
    let logs: [Box<dyn EventStore>; 2] = [Box::new(store), Box::new(MemoryEventStore::new())];
    let mut runner = TestRunner::deterministic();
    let texts: Vec<String> = (0..DOCUMENTS).map(|_| document().new_tree(&mut runner).unwrap().current()).collect();
    let rewritten = texts.iter().filter(|text| text.contains(['e', 'E', '\\'])).count();
    assert!(rewritten > DOCUMENTS / 4, "{rewritten} of {DOCUMENTS} have something to be written anew");
    let events: Vec<NewEvent> = texts
        .iter()
        .map(|text| {
            let json = Json::from_text(text.as_str()).unwrap_or_else(|error| panic!("{text}: {error}"));
            NewEvent::from_json("A", json.clone()).with_metadata(&json).unwrap()
        })
        .collect();
    let mut read = Vec::new();
    for log in logs {
        for some in events.chunks(100) {
            log.append(some.to_vec(), AppendCondition::none()).await.unwrap();
        }
        read.push(log.query(&Filter::any_event()).await.unwrap().into_events());
    }
    for ((text, server), memory) in texts.iter().zip(&read[0]).zip(&read[1]) {
        let written = server.payload().as_json().unwrap().as_str();
        assert_eq!(memory.payload().as_json().unwrap().as_str(), written, "{text}");
        assert_eq!((memory.metadata().as_str(), server.metadata().as_str()), (written, written), "{text}");
    }
}
