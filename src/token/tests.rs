use proptest::{collection::vec, prelude::*};

use super::*;

fn place(timeline: u32, lsn: u64) -> Place {
    Place { timeline, lsn: Lsn::new(lsn) }
}

fn mark(log: u64, position: u64, place: Option<Place>) -> LogMark {
    LogMark { log, position, id: Uuid::from_u128(u128::from(position)), place }
}

fn tokens() -> impl Strategy<Value = Token> {
    let places = || (1..4_u32, prop_oneof![0..5_u64, any::<u64>()]).prop_map(|(timeline, lsn)| place(timeline, lsn));
    let of_place = (0..3_u64, places()).prop_map(|(system, place)| Token::of_place(Some(system), place));
    let of_mark = (0..3_u64, 0..3_u64, 1..9_u64, proptest::option::of(places()));
    let of_mark =
        of_mark.prop_map(|(system, log, position, place)| Token::of_mark(Some(system), mark(log, position, place)));
    vec(prop_oneof![of_place, of_mark], 0..6)
        .prop_map(|tokens| tokens.iter().fold(Token::new(), |merged, token| merged.merge(token)))
}

proptest! {
    #[test]
    fn a_text_is_read_as_what_was_written(token in tokens()) {
        let text = token.to_string();
        prop_assert_eq!(&text.parse::<Token>().unwrap(), &token);
        let json = serde_json::to_string(&token).unwrap();
        prop_assert_eq!(serde_json::from_str::<Token>(&json).unwrap(), token);
    }

    #[test]
    fn a_parsed_token_is_formatted_as_the_same_text(bytes in vec(prop_oneof![0..4_u8, any::<u8>()], 0..80)) {
        let text = format!("1.{}", base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, bytes));
        if let Ok(token) = text.parse::<Token>() {
            prop_assert_eq!(token.to_string(), text);
        }
    }

    #[test]
    fn no_text_is_too_strange(text in ".{0,60}") {
        prop_assert!(text.parse::<Token>().is_err() || text == text.parse::<Token>().unwrap().to_string());
    }

    #[test]
    fn merging_is_a_join(one in tokens(), other in tokens(), third in tokens()) {
        prop_assert_eq!(&one.merge(&one), &one);
        prop_assert_eq!(&one.merge(&Token::new()), &one);
        prop_assert_eq!(one.merge(&other).merge(&third), one.merge(&other.merge(&third)));
        let both = one.merge(&other);
        for token in [&one, &other] {
            for part in token.parts.iter() {
                let system = Some(part.system);
                for place in &part.places {
                    let covers = |its: Option<Place>| its.is_some_and(|its| its.timeline == place.timeline && its.lsn >= place.lsn);
                    prop_assert!(both.places(system, None).any(covers), "{place:?} of {both:?}");
                }
                for mark in &part.marks {
                    let covers = |its: LogMark| its.key() == mark.key() && its.position >= mark.position;
                    prop_assert!(both.marks(system, mark.log).any(covers), "{mark:?} of {both:?}");
                }
            }
        }
    }

    #[test]
    fn a_changed_signature_or_text_is_refused(token in tokens(), at in any::<prop::sample::Index>(), bit in 0..6_u8) {
        let key = TokenKey::new([7; 32]).unwrap();
        let signed = key.sign(&token);
        prop_assert_eq!(key.verify(&signed).unwrap(), token);
        let mut changed = signed.clone().into_bytes();
        changed[at.index(signed.len())] ^= 1 << bit;
        prop_assert!(key.verify(&String::from_utf8_lossy(&changed)).is_err());
        prop_assert!(TokenKey::new([8; 32]).unwrap().verify(&signed).is_err());
    }
}

#[test]
fn a_token_is_about_as_long_as_a_cookie_may_be_short() {
    let token = Token::of_mark(Some(u64::MAX), mark(u64::MAX, 1_000_000, Some(place(3, 0x16_B374_D848))));
    assert!(token.to_string().len() <= 70, "{token}");
    assert_eq!(Token::new().to_string(), "1.");
}

#[test]
fn an_unusual_text_is_refused() {
    let long = format!("1.{}", "A".repeat(Token::MAX_TEXT_LEN));
    // Another version, padding, a number that is longer than necessary, an empty part, a timeline 0, trailing bytes.
    let padded_number = "1.AAAAAAAAAAEBgAABAA";
    for text in ["", "1", "2.", "1.AA==", padded_number, "1.AAAAAAAAAAEAAA", "1.AAAAAAAAAAEBAAAB", &long] {
        let error = text.parse::<Token>().unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::InvalidInput, "{text}");
    }
    assert!(TokenKey::new("short").unwrap_err().to_string().contains("16"));
    assert!(!format!("{:?}", TokenKey::new("0123456789abcdef").unwrap()).contains("0123"));
}

#[test]
fn merging_tokens_keeps_marks_and_places_of_both_timelines() {
    let (old, new) = (place(1, 900), place(2, 100));
    let merged = Token::of_place(Some(1), old).merge(&Token::of_place(Some(1), new));
    assert_eq!(merged.places(Some(1), None).collect::<Vec<_>>(), [Some(old), Some(new)]);
    let (lost, later) = (mark(5, 9, Some(old)), mark(5, 12, Some(new)));
    let merged = Token::of_mark(Some(1), lost).merge(&Token::of_mark(Some(1), later));
    assert_eq!(merged.marks(Some(1), 5).collect::<Vec<_>>(), [lost, later]);
    // Once a read has contained both, what it saw replaces them.
    let seen = Token::of_mark(Some(1), mark(5, 13, Some(place(2, 130))));
    assert_eq!(merged.advance(&merged, &seen), seen);
    // What came meanwhile stays.
    let meanwhile = Token::of_mark(Some(1), mark(5, 14, Some(place(2, 140))));
    assert_eq!(merged.merge(&meanwhile).advance(&merged, &seen), meanwhile);
}

#[test]
fn only_what_a_read_has_contained_stands_no_more() {
    let token = Token::of_place(Some(1), place(1, 10)).merge(&Token::of_place(Some(1), place(2, 20)));
    let (proven, now) = (Token::of_place(Some(1), place(2, 20)), Token::of_place(Some(1), place(2, 30)));
    let places = |token: &Token| token.places(Some(1), None).collect::<Vec<_>>();
    assert_eq!(places(&token.advance(&proven, &now)), [Some(place(1, 10)), Some(place(2, 30))]);
    // The same holds for what was seen at an unknown place.
    let unknown = proven.merge(&Token::of_unknown_place(Some(1)));
    assert_eq!(places(&unknown.advance(&proven, &now)), [Some(place(2, 30)), None]);
    assert_eq!(places(&unknown.advance(&unknown, &now)), [Some(place(2, 30))]);
    // What has come meanwhile, at an unknown place, is another one.
    let again = unknown.merge(&Token::of_unknown_place(Some(1)));
    assert_eq!(places(&again), [Some(place(2, 20)), None], "the later one stands for both");
    assert_eq!(places(&again.advance(&unknown, &now)), [Some(place(2, 30)), None]);
    assert_eq!(places(&again.advance(&again, &now)), [Some(place(2, 30))]);
    // And in an unknown cluster: the answering cluster was checked against it.
    let nowhere = Token::of_unknown_place(None);
    assert_eq!(nowhere.advance(&nowhere, &now), now);
    assert_eq!(nowhere.advance(&Token::new(), &now), nowhere.merge(&now));
    assert_eq!(nowhere.advance(&nowhere, &Token::of_log(5, mark(5, 9, None).mark())).places(Some(1), None).count(), 1);
    // An event at an unknown place is before the place of a read that has contained it, and it stays an event.
    let unplaced = Token::of_mark(Some(1), mark(5, 9, None));
    let placed = mark(5, 9, Some(place(2, 30)));
    assert_eq!(unplaced.advance(&unplaced, &now).marks(Some(1), 5).collect::<Vec<_>>(), [placed]);
    assert_eq!(unplaced.advance(&proven, &now).marks(Some(1), 5).collect::<Vec<_>>(), [mark(5, 9, None)]);
}

#[test]
fn each_cluster_and_each_log_judges_its_own() {
    let token = Token::of_mark(Some(1), mark(5, 9, Some(place(1, 90)))).merge(&Token::of_place(Some(2), place(7, 70)));
    assert_eq!(token.places(Some(1), None).collect::<Vec<_>>(), [Some(place(1, 90))]);
    assert_eq!(token.places(Some(1), Some(5)).count(), 0, "the mark is judged by looking");
    assert_eq!(token.places(Some(1), Some(6)).count(), 1, "of another log, it is only known where it was written");
    assert_eq!(token.places(Some(2), None).collect::<Vec<_>>(), [Some(place(7, 70))]);
    assert_eq!((token.marks(Some(2), 5).count(), token.marks(None, 5).count()), (0, 1));
    assert!(token.is_foreign(Some(3)) && !token.is_foreign(None) && !Token::new().is_foreign(Some(3)));
}

#[test]
fn a_log_in_memory_is_in_no_cluster() {
    let token = Token::of_log(5, mark(5, 9, None).mark());
    assert_eq!(token.marks_of(5).count(), 1);
    for system in [Some(1), None] {
        assert!(token.is_foreign(system) && token.places(system, None).count() == 0);
    }
    let unknown = Token::of_mark(None, mark(5, 9, None));
    assert_eq!(unknown.places(Some(1), None).collect::<Vec<_>>(), [None], "somewhere in a cluster, nobody knows where");
}
