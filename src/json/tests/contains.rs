//! What contains what.

use proptest::prelude::*;

use super::{json, near_json, nested, texts};
use crate::{
    Json,
    json::{Document, Value},
};

pub(super) fn found(document: &str, fragment: &Value<'_>) -> bool {
    Document::new(document).contains(fragment)
}

fn contains(document: &str, fragment: &str) -> bool {
    found(document, &json(fragment).value())
}

/// The same on parsed documents, as the manual describes it.
fn model(document: &Value<'_>, fragment: &Value<'_>) -> bool {
    match (document, fragment) {
        (Value::Array(elements), scalar) if !scalar.is_container() => elements.contains(scalar),
        _ => model_nested(document, fragment),
    }
}

fn model_nested(document: &Value<'_>, fragment: &Value<'_>) -> bool {
    match (document, fragment) {
        (Value::Object(document), Value::Object(fragment)) => fragment.iter().all(|(key, wanted)| {
            document.iter().any(|(candidate, member)| candidate == key && model_nested(member, wanted))
        }),
        (Value::Array(document), Value::Array(fragment)) => {
            fragment.iter().all(|wanted| document.iter().any(|element| model_nested(element, wanted)))
        }
        _ => !document.is_container() && document == fragment,
    }
}

/// What PostgreSQL's manual says about containment, and what its source adds.
#[test]
fn containment_is_that_of_jsonb() {
    let contained = [
        (r#""foo""#, r#""foo""#),
        ("[1,2,3]", "[1,3]"),
        ("[1,2,3]", "[3,1]"),
        ("[1,2,3]", "[1,2,2]"),
        (r#"{"product":"PostgreSQL","version":9.4,"jsonb":true}"#, r#"{"version":9.4}"#),
        ("[1,2,[1,3]]", "[[1,3]]"),
        ("[1,2,[1,3]]", "[[3]]"),
        (r#"{"foo":{"bar":"baz","x":1}}"#, r#"{"foo":{"bar":"baz"}}"#),
        (r#"["foo","bar"]"#, r#""bar""#),
        ("[1.0]", "1"),
        ("[[1,2],[3]]", "[[1],[3],[2]]"),
        (r#"{"a":[{"b":1,"c":2},{"b":3}]}"#, r#"{"a":[{"b":3},{"c":2}]}"#),
        ("[]", "[]"),
        ("{}", "{}"),
        ("[1]", "[]"),
        (r#"{"a":[1]}"#, r#"{"a":[]}"#),
        (r#"{"a":null}"#, r#"{"a":null}"#),
        (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
        ("null", "null"),
        ("[null]", "null"),
    ];
    for (document, fragment) in contained {
        assert!(contains(document, fragment), "{document} @> {fragment}");
    }
    let not_contained = [
        ("[1,2,[1,3]]", "[1,3]"),
        (r#"{"foo":{"bar":"baz"}}"#, r#"{"bar":"baz"}"#),
        (r#""bar""#, r#"["bar"]"#),
        (r#""bar""#, "[]"),
        ("1", "{}"),
        ("1", "\"1\""),
        ("true", "\"true\""),
        ("[[1]]", "1"),
        (r#"{"a":["x"]}"#, r#"{"a":"x"}"#),
        ("{}", "[]"),
        ("[]", "{}"),
        ("[]", "null"),
        ("{}", "null"),
        (r#"{"a":1}"#, r#"{"a":null}"#),
        (r#"{}"#, r#"{"a":null}"#),
        (r#"{"a":1,"a":2}"#, r#"{"a":1}"#),
        (r#"[{"b":1},{"c":2}]"#, r#"[{"b":1,"c":2}]"#),
        (r#"{"n":9007199254740993}"#, r#"{"n":9007199254740992}"#),
        (r#"{"a":1}"#, r#"{"A":1}"#),
    ];
    for (document, fragment) in not_contained {
        assert!(!contains(document, fragment), "{document} @> {fragment}");
    }
}

/// Other programs may have put deeper documents into the table. They can still be matched and compared, without a stack
/// overflow and in reasonable time.
#[test]
fn stored_documents_of_any_depth_are_matched() {
    let deep = Json::from_stored(format!(r#"{{"a":1,"deep":{}}}"#, nested(1_000_000)));
    assert!(contains(deep.as_str(), r#"{"a":1}"#));
    assert!(contains(deep.as_str(), r#"{"deep":[[[]]]}"#));
    assert!(!contains(deep.as_str(), r#"{"deep":[[1]]}"#));
    assert_eq!(deep, deep.clone());
    assert_ne!(deep, json("{}"));
    let barely = Json::from_stored(nested(Json::MAX_DEPTH + 1));
    assert!(contains(barely.as_str(), &nested(Json::MAX_DEPTH)));
}

#[test]
fn text_that_only_looks_like_a_member_is_not_contained() {
    let document = r#" { "a" : "\"b\":1,\\" , "c" : {"b":2,"x":"}"} , "e\u0062" : [ "]" , 3 ] , "é" : -1.50 } "#;
    for fragment in [r#"{"c":{"b":2}}"#, r#"{"c":{"x":"}"}}"#, r#"{"eb":[3]}"#, r#"{"eb":["]"]}"#, r#"{"é":-1.5}"#] {
        assert!(contains(document, fragment), "{fragment}");
    }
    assert!(contains(document, r#"{"a":"\"b\":1,\\"}"#));
    for fragment in [r#"{"b":1}"#, r#"{"b":2}"#, r#"{"x":"}"}"#, r#"{"a":"b"}"#, r#"{"e":[3]}"#, r#"{"é":1.5}"#, "3"] {
        assert!(!contains(document, fragment), "{fragment}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn text_contains_what_the_parsed_document_contains(document in texts(), fragment in texts()) {
        let (parsed, fragment) = (json(&document), json(&fragment));
        prop_assert_eq!(found(&document, &fragment.value()), model(&parsed.value(), &fragment.value()));
        // Few random ones contain each other; of those with the same beginning, more do.
        let both = format!("[{document},{{\"a\":{document}}},{}]", fragment.as_str());
        prop_assert_eq!(found(&both, &fragment.value()), model(&json(&both).value(), &fragment.value()));
        let one = json(&format!("{{\"a\":{}}}", fragment.as_str()));
        let outer = format!("{{\"b\":0, \"a\":{document}, \"c\":[]}}");
        prop_assert_eq!(found(&outer, &one.value()), model(&json(&outer).value(), &one.value()));
    }

    #[test]
    fn a_search_in_invalid_json_terminates(text in near_json(), fragment in texts()) {
        found(&text, &json(&fragment).value());
    }
}
