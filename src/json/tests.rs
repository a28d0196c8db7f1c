mod contains;

use proptest::prelude::*;

use super::*;
use crate::ErrorKind;

fn json(text: &str) -> Json {
    Json::from_text(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refusal(text: &str) -> String {
    let error = Json::from_text(text).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    error.to_string()
}

fn nested(levels: usize) -> String {
    "[".repeat(levels) + &"]".repeat(levels)
}

#[test]
fn equality_is_that_of_jsonb() {
    let equal = [
        (r#"{"a":1,"b":2}"#, r#" { "b" : 2 , "a" : 1 } "#),
        (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
        (r#"{"b":0,"a":1,"b":5,"a":2,"b":3}"#, r#"{"a":2,"b":3}"#),
        ("1", "1.0"),
        ("1", "1e0"),
        ("1", "10E-1"),
        ("1", "0.01e+2"),
        ("100", "1e2"),
        ("-0", "0"),
        ("0e7", "0.000"),
        ("12300", "1.23e4"),
        ("0.00120", "12e-4"),
        ("10.010", "1001e-2"),
        (r#""\u00e9\ud83d\ude00\/\n""#, "\"é😀/\\n\""),
        (r#"{"\u0061":1}"#, r#"{"a":1}"#),
    ];
    for (left, right) in equal {
        assert_eq!(json(left), json(right), "{left} {right}");
    }
    let different = [
        ("9007199254740993", "9007199254740992"),
        ("0.1", "0.10000000000000001"),
        ("1", "-1"),
        ("1", "10"),
        ("1", "0.1"),
        ("11", "1e1"),
        ("101", "11"),
        ("1", "\"1\""),
        ("1", "true"),
        ("null", "{}"),
        ("[1,2]", "[2,1]"),
        ("[1,1]", "[1]"),
        ("[]", "{}"),
        (r#"{"a":1}"#, r#"{"a":1,"b":null}"#),
        (r#""a""#, r#""A""#),
    ];
    for (left, right) in different {
        assert_ne!(json(left), json(right), "{left} {right}");
    }
}

proptest! {
    #[test]
    fn a_whole_number_that_is_taken_as_it_is_is_canonical(text in "-?[0-9]{1,20}") {
        prop_assert_eq!(&*number::canonical(&text), number::Decimal::new(&text).to_string());
    }
}

#[test]
fn json_that_jsonb_cannot_hold_is_refused_with_its_location() {
    assert_eq!(refusal(""), "invalid JSON at byte 0, path $: the text is empty; an empty object is {}");
    assert!(refusal(" \n ").contains("the text is empty"));
    let nul = refusal(r#"{"a":{"b":[0,"x\u0000"]}}"#);
    assert!(nul.starts_with(r#"invalid JSON at byte 15, path $["a"]["b"][1]: PostgreSQL cannot store"#), "{nul}");
    assert!(refusal(r#"{"\u0000":1}"#).contains("\\u0000"));
    // An escaped backslash before the letter u does not escape a character.
    assert_eq!(json(r#""\\u0000""#).decode::<String>().unwrap(), "\\u0000");
    assert!(refusal(r#""\\\u0000""#).contains("byte 3"));
    for half in
        [r#""\ud800""#, r#""\udc00""#, r#""\ud800x""#, r#""\ud800\n""#, r#""\ud800\ud800""#, r#""\udc00\ud800""#]
    {
        assert!(refusal(half).contains("surrogate pair"), "{half}");
    }
    assert!(refusal(r#""\ud800\u00""#).contains("hexadecimal"));
    assert!(refusal(r#"{"a":1,}"#).contains("a key in double quotes"));
    assert!(refusal(r#"[1,]"#).contains("path $[1]"));
    assert!(refusal("[1] 2").contains("more text after"));
    let long = format!("{{{:?}:[", "k".repeat(100));
    assert!(refusal(&long).contains(&format!("path $[\"{}\"… (100 bytes)][0]", "k".repeat(60))));
}

/// The outcomes are those of a PostgreSQL 15 server, asked for each.
#[test]
fn numbers_have_the_range_of_numeric() {
    let stored = [
        "1e131071",
        "0.1e131072",
        "0.0001e131075",
        "10e131070",
        "99e131070",
        "1e-16383",
        "0e-16383",
        "0e1000000",
        "0e1073741822",
        "-1E+5",
    ];
    for number in stored {
        json(number);
    }
    for number in ["1e131072", "10e131071", "0e1073741823", "-1e99999999999999999999"] {
        assert!(refusal(number).contains("131072 digits before"), "{number}");
    }
    for number in ["1e-16384", "1.5e-16383", "1000e-16384", "0e-16384", "0.10e-16382"] {
        assert!(refusal(number).contains("16383 digits after"), "{number}");
    }
    assert!(refusal("[7, 1e131072]").contains("byte 4, path $[1]"));
}

#[test]
fn the_deepest_document_is_the_deepest_that_serde_json_decodes() {
    let deepest = json(&nested(Json::MAX_DEPTH));
    deepest.decode::<serde_json::Value>().unwrap();
    let deeper = nested(Json::MAX_DEPTH + 1);
    assert!(serde_json::from_str::<serde_json::Value>(&deeper).is_err());
    assert!(refusal(&deeper).contains("deeper than 127 levels"));
    // Depth is not the number of containers.
    json(&format!("[{}[]]", "[],{},".repeat(500)));
}

#[test]
fn the_longest_document_is_documented() {
    let text = |len: usize| format!("\"{}\"", "x".repeat(len - 2));
    json(&text(Json::MAX_LEN));
    assert!(refusal(&text(Json::MAX_LEN + 1)).contains("16777217 bytes is longer than the limit of 16777216"));
}

/// Seven bytes each, and a log that nobody can read any more.
#[test]
fn numbers_count_as_they_are_written_out() {
    let many = |count: usize| format!("[{}1]", "1e131071,".repeat(count));
    json(&many(127));
    let refused = refusal(&many(128));
    assert!(refused.contains("path $[127]: with its numbers written out"), "{refused}");
    let lengths = [
        ("1", 1),
        ("-12.50", 6),
        ("1e3", 4),
        ("-1e3", 5),
        ("1.5e1", 2),
        ("1.50e1", 4),
        ("1e-3", 5),
        ("12e-1", 3),
        ("0e5", 1),
        ("0e-2", 4),
        ("-0.00", 4),
        ("100e-2", 4),
        ("0.01e1", 3),
    ];
    for (number, length) in lengths {
        assert_eq!(number::written_out_len(number), length, "{number}");
    }
}

/// Nobody has stored such a number, but a store may return one.
#[test]
fn numbers_the_server_would_refuse_are_not_written_out() {
    for number in ["1e999999999", "-1E-999999999", "1e131072"] {
        assert_eq!(number::written_out(number), number);
    }
}

#[test]
fn json_is_itself_inside_other_json() {
    let text = r#"{"n":9007199254740993.10,"s":"\u00e9"}"#;
    let outer = serde_json::to_string(&[json(text)]).unwrap();
    assert_eq!(outer, format!("[{text}]"));
    assert_eq!(serde_json::from_str::<Vec<Json>>(&outer).unwrap()[0].as_str(), text);
    assert!(serde_json::from_str::<Json>(r#""\u0000""#).is_err());
    assert_eq!(Json::from_serialize(&json(text)).unwrap().as_str(), text);
}

#[test]
fn borrowed_and_owned_values_decode() {
    #[derive(serde::Deserialize)]
    struct Book<'a> {
        title: &'a str,
        pages: u16,
    }
    let json = json(r#"{"title":"Emil","pages":120}"#);
    let book: Book<'_> = json.decode().unwrap();
    assert_eq!((book.title, book.pages), ("Emil", 120));
    let error = json.decode::<Vec<u8>>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.report().contains("expected a sequence"), "{}", error.report());
}

/// JSON texts with a vocabulary so small that documents and fragments overlap, and with more than one text for a value.
pub(crate) fn texts() -> impl Strategy<Value = String> {
    let scalars = prop::sample::select(vec![
        "null",
        "true",
        "false",
        "0",
        "-0.0",
        "1",
        "1.0",
        "10e-1",
        "-1",
        "12",
        "1.2e1",
        "9007199254740993",
        "9007199254740992",
        "1e30",
        r#""""#,
        r#""1""#,
        r#""a""#,
        r#""\u0061""#,
        r#""\"\\,""#,
        r#""😀""#,
        r#""\ud83d\ude00""#,
        "\"\u{ffff}\"",
    ])
    .prop_map(str::to_owned);
    let keys = prop::sample::select(vec![r#""a""#, r#""\u0061""#, r#""b""#, r#""aa""#, r#""""#, r#""\n""#]);
    scalars.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|elements| format!("[{}]", elements.join(" ,"))),
            prop::collection::vec((keys.clone(), inner), 0..4).prop_map(|members| {
                let members: Vec<_> = members.iter().map(|(key, value)| format!("{key} :{value}")).collect();
                format!("{{{}}}", members.join(", "))
            }),
        ]
    })
}

/// Almost JSON: texts with one byte changed, removed or inserted.
fn near_json() -> impl Strategy<Value = String> {
    (texts(), any::<prop::sample::Index>(), 0..4, prop::sample::select(b"\"\\{}[],:0e-.u \n".to_vec())).prop_map(
        |(text, index, change, byte)| {
            let mut bytes = text.into_bytes();
            let index = index.index(bytes.len());
            match change {
                0 => {}
                1 => bytes[index] = byte,
                2 => drop(bytes.remove(index)),
                _ => bytes.insert(index, byte),
            }
            String::from_utf8_lossy(&bytes).into_owned()
        },
    )
}

proptest! {
    #[test]
    fn the_parser_takes_what_serde_json_takes(text in near_json()) {
        let theirs = serde_json::from_str::<serde_json::Value>(&text);
        let ours = Json::from_text(text.as_str());
        match (&theirs, &ours) {
            (Ok(_), Ok(_)) | (Err(_), Err(_)) => {}
            // They differ where they should: a number beyond an f64, which numeric holds, and what only we reject.
            (Err(error), Ok(_)) => prop_assert!(error.to_string().contains("out of range"), "{text} {error}"),
            (Ok(_), Err(error)) => prop_assert!(error.to_string().contains("PostgreSQL cannot store"), "{text} {error}"),
        }
    }

    #[test]
    fn strings_are_read_as_serde_json_reads_them(string in any::<String>(), escaped in any::<bool>()) {
        prop_assume!(!string.contains('\0'));
        let text = if escaped {
            format!("\"{}\"", string.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect::<String>())
        } else {
            serde_json::to_string(&string).unwrap()
        };
        let json = json(&text);
        prop_assert!(matches!(json.value(), Value::String(read) if read == string));
    }

    #[test]
    fn canonical_text_means_the_same_and_is_a_fixed_point(text in texts()) {
        let (value, canonical) = json(&text).value().into_canonical();
        let parsed = json(&canonical);
        prop_assert_eq!(&parsed.value(), &value);
        prop_assert_eq!(&parsed.value().into_canonical().1, &canonical);
        // What contains one contains the other: each contains itself in both forms.
        prop_assert!(contains::found(&text, &value));
        prop_assert!(contains::found(&canonical, &json(&text).value()));
    }

    #[test]
    fn a_number_is_its_canonical_text(negative in any::<bool>(), integer in 0..2000_u32, fraction in "[0-9]{0,8}", exponent in -40..40_i32) {
        let sign = if negative { "-" } else { "" };
        let point = if fraction.is_empty() { "" } else { "." };
        let text = format!("{sign}{integer}{point}{fraction}e{exponent}");
        let canonical = number::Decimal::new(&text).to_string();
        prop_assert_eq!(json(&text), json(&canonical));
        // An independent check: the nearest floats are the same.
        prop_assert_eq!(text.parse::<f64>().unwrap(), canonical.parse::<f64>().unwrap(), "{} {}", text, canonical);
        let again = number::Decimal::new(&canonical).to_string();
        prop_assert_eq!(again, canonical);
    }
}
