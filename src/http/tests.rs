//! Cases that only long tokens can show, which no store creates, and cases that need a controlled clock.

use std::time::Instant;

use http::{HeaderMap, HeaderName, header::SET_COOKIE};
use uuid::Uuid;

use super::{
    TokenCookie, TokenHeader,
    carrier::{Answer, Taken},
    seal::Seal,
    together::{InFlight, Together},
};
use crate::{
    lsn::Lsn,
    token::{LogMark, Place, Token, TokenKey},
};

fn place(system: u64) -> Place {
    Place { timeline: 3, lsn: Lsn::new(u64::from(u32::MAX) + system) }
}

fn mark(system: u64, log: u64) -> Token {
    let mark = LogMark { log, position: 1_000_000 + log, id: Uuid::from_u128(log.into()), place: Some(place(system)) };
    Token::of_mark(Some(system), mark)
}

fn merged(tokens: impl Iterator<Item = Token>) -> Token {
    tokens.fold(Token::new(), |merged, token| merged.merge(&token))
}

fn key() -> TokenKey {
    TokenKey::new([7; 32]).unwrap()
}

fn answer(token: &Token, is_read: bool) -> Answer<'_> {
    Answer { token, is_news: true, is_read, is_anew: false, in_flight: None }
}

#[test]
fn a_cookie_of_too_many_logs_holds_places_instead_of_marks() {
    let cookie = TokenCookie::signed_by(key()).with_path(format!("/{}", "p".repeat(500))).unwrap();
    let cookie = cookie.with_name("n".repeat(128)).unwrap();
    let few = merged((1..=30).map(|log| mark(1, log)));
    let many = merged((1..=300).map(|log| mark(1, log)));
    for (given, expected) in [(&few, few.clone()), (&many, Token::of_place(Some(1), place(1)))] {
        for is_read in [true, false] {
            let mut response = HeaderMap::new();
            cookie.give(&mut response, &Taken::default(), &answer(given, is_read));
            let line = response[SET_COOKIE].to_str().unwrap();
            assert!(line.len() <= 4096, "{} bytes", line.len());
            let (_, value) = line.split_once(';').unwrap().0.split_once('=').unwrap();
            assert_eq!(key().verify(value).unwrap(), expected);
        }
    }
}

#[test]
fn a_token_that_is_too_long_in_any_case_is_not_given_and_takes_no_other_away() {
    let long = merged((1..=300).map(|system| mark(system, 1)));
    let taken = Taken { cookies: vec!["mainstem-token.01234567".to_owned()], ..Taken::default() };
    let mut response = HeaderMap::new();
    TokenCookie::signed_by(key()).give(&mut response, &taken, &answer(&long, false));
    TokenHeader::unsigned().give(&mut response, &long);
    assert!(response.is_empty(), "{response:?}");
}

#[test]
fn marks_of_unknown_place_are_kept_when_a_token_is_shortened() {
    let seal = Seal::unsigned();
    let unknown = Token::of_unknown_place(Some(1));
    let many = merged((1..=300).map(|log| mark(1, log))).merge(&unknown);
    let short = seal.open(&seal.close(&many, 200).unwrap()).unwrap();
    assert_eq!(short, Token::of_place(Some(1), place(1)).merge(&unknown));
}

#[test]
fn a_header_has_a_token_as_long_as_is_read() {
    let header = TokenHeader::signed_by(key());
    let name = HeaderName::from_static("mainstem-token");
    for logs in 40..120 {
        let token = merged((1..=logs).map(|log| mark(1, log)));
        let mut headers = HeaderMap::new();
        header.give(&mut headers, &token);
        assert!(headers[&name].len() <= 4096);
        let taken = header.take(&headers);
        assert!(taken.invalid.is_none(), "{logs} logs: {:?}", taken.invalid);
        assert!(taken.token == token || taken.token == Token::of_place(Some(1), place(1)), "{logs} logs");
    }
}

/// The tokens of the cookies that are set, by name, and how many cookies are deleted.
fn set(response: &HeaderMap) -> (Vec<Token>, usize) {
    let values = response.get_all(SET_COOKIE).iter().map(|line| line.to_str().unwrap());
    let values = values.map(|line| line.split_once(';').unwrap().0.split_once('=').unwrap().1);
    let (gone, set): (Vec<&str>, Vec<&str>) = values.partition(|value| value.is_empty());
    (set.iter().map(|text| key().verify(text).unwrap()).collect(), gone.len())
}

/// The response to a write of a client with one write cookie, whose other requests are in flight.
fn write(cookie: &TokenCookie, in_flight: &InFlight, own: &Token) -> (Vec<Token>, usize) {
    let mut response = HeaderMap::new();
    let answer = Answer { in_flight: Some(in_flight), ..answer(own, false) };
    cookie.give(&mut response, &Taken::default(), &answer);
    set(&response)
}

#[test]
fn beyond_eight_a_cookie_stands_for_those_of_the_last_seconds() {
    let (together, cookie) = (Together::default(), TokenCookie::signed_by(key()));
    let in_flight = together.enter(&HeaderMap::new());
    let first_eight = merged((1..=8).map(|log| mark(1, log)));
    for log in 1..=8 {
        assert_eq!(write(&cookie, &in_flight, &mark(1, log)), (vec![mark(1, log)], 0), "answer {log}");
    }
    let own = mark(1, 9);
    let soon = Instant::now() + Together::KEPT / 2;
    assert_eq!(in_flight.fold(&own, soon).0, own.merge(&first_eight));
    // A client that always has a request in flight is not held to tokens from long ago.
    assert_eq!(in_flight.fold(&own, soon + Together::KEPT), (own.clone(), Vec::new()));
    // Nor to what was carried from one cookie to the next.
    let (folded, others) = in_flight.fold(&own, soon);
    assert_eq!(others, [""; 0], "they are gone");
    in_flight.note("folded", &folded, &others, soon);
    for log in 10..=17 {
        let late = soon + Together::KEPT / 2;
        let (folded, others) = in_flight.fold(&mark(1, log), late);
        assert_eq!(others.len(), if log == 17 { 8 } else { 0 });
        in_flight.note(&log.to_string(), &folded, &others, late);
    }
    // With seven more it would be one of eight.
    let (alone, later) = (mark(1, 25), soon + Together::KEPT);
    for log in 18..=24 {
        in_flight.note(&log.to_string(), &mark(1, log), &[], later);
    }
    assert_eq!(in_flight.fold(&alone, later), (alone, Vec::new()));
}

#[test]
fn a_session_that_is_given_up_has_no_later_answer_stand_for_what_is_lost() {
    let (together, cookie) = (Together::default(), TokenCookie::signed_by(key()));
    let in_flight = together.enter(&HeaderMap::new());
    for log in 1..=8 {
        write(&cookie, &in_flight, &mark(1, log));
    }
    let (read, nothing) = (together.enter(&HeaderMap::new()), Token::new());
    let lost = Answer { in_flight: Some(&read), is_anew: true, ..answer(&nothing, true) };
    cookie.give(&mut HeaderMap::new(), &Taken::default(), &lost);
    assert_eq!(write(&cookie, &in_flight, &mark(1, 9)), (vec![mark(1, 9)], 0));
}

#[test]
fn answers_too_long_to_share_a_cookie_still_carry_their_own_writes() {
    let (together, cookie) = (Together::default(), TokenCookie::signed_by(key()));
    let in_flight = together.enter(&HeaderMap::new());
    // Each of them fits into a cookie, and no two do.
    let own = |answer: u64| merged((answer * 100..answer * 100 + 45).map(|system| mark(system, 1)));
    for number in 1..=20 {
        let (mut response, own) = (HeaderMap::new(), own(number));
        let taken = Taken { cookies: vec!["mainstem-token.01234567".to_owned()], ..Taken::default() };
        let answer = Answer { in_flight: Some(&in_flight), ..answer(&own, false) };
        cookie.give(&mut response, &taken, &answer);
        let (tokens, gone) = set(&response);
        // As places, if necessary.
        let is_there = tokens == [own.clone()] || tokens == [own.with_places_for_marks()];
        assert!(is_there && gone == 1, "answer {number}: {} cookies, {gone} gone", tokens.len());
    }
}

#[test]
fn requests_with_different_cookies_belong_to_different_clients() {
    let (together, cookie) = (Together::default(), TokenCookie::signed_by(key()));
    let requests = (1..=20).map(|client| {
        let mut request = HeaderMap::new();
        request.insert("cookie", format!("mainstem-token.0123abcd={client}").parse().unwrap());
        together.enter(&request)
    });
    for (log, in_flight) in (1..).zip(&requests.collect::<Vec<_>>()) {
        let (mut response, own) = (HeaderMap::new(), mark(1, log));
        let answer = Answer { in_flight: Some(in_flight), ..answer(&own, false) };
        cookie.give(&mut response, &Taken::default(), &answer);
        assert_eq!(set(&response), (vec![own], 0));
    }
}

/// The cookies that a response sets, and those that it deletes.
fn given(response: &HeaderMap) -> (Vec<(String, Token)>, Vec<String>) {
    let (mut set, mut gone) = (Vec::new(), Vec::new());
    for line in response.get_all(SET_COOKIE) {
        let (name, rest) = line.to_str().unwrap().split_once('=').unwrap();
        let (value, attributes) = rest.split_once(';').unwrap();
        match attributes.contains("Max-Age=0") {
            true => gone.push(name.to_owned()),
            false => set.push((name.to_owned(), key().verify(value).unwrap())),
        }
    }
    (set, gone)
}

/// Otherwise each read of this browser would have to go to the primary, until the cookie expires.
#[test]
fn a_read_that_has_shown_what_nobody_knew_the_place_of_replaces_the_cookie_that_asks_for_it() {
    let cookie = TokenCookie::signed_by(key());
    let written = mark(1, 1).merge(&Token::of_unknown_place(Some(1)));
    let brought = |names: &[&str]| Taken {
        token: written.clone(),
        cookies: names.iter().map(|name| format!("mainstem-token.{name}")).collect(),
        ..Taken::default()
    };
    let give = |taken: &Taken, token: &Token| {
        let mut response = HeaderMap::new();
        cookie.give(&mut response, taken, &answer(token, true));
        given(&response)
    };
    let shown = mark(1, 2);
    let (set, gone) = give(&brought(&["0123abcd"]), &shown);
    assert_eq!(gone, ["mainstem-token.0123abcd"]);
    let [(name, token)] = &set[..] else { panic!("{set:?}") };
    assert!(*token == shown && name.len() == "mainstem-token.0123abcd".len() && *name != gone[0], "{name}");
    // All reads that bring the same have one name for it, in whatever order; others have another.
    let names =
        |taken: &Taken, token: &Token| give(taken, token).0.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let (two, reversed) = (brought(&["00000001", "00000002"]), brought(&["00000002", "00000001"]));
    assert_eq!(names(&two, &shown), names(&reversed, &mark(1, 3)));
    assert_ne!(names(&two, &shown), names(&brought(&["00000001"]), &shown));
    // As long as it is asked for, the cookie stays.
    let (set, gone) = give(&brought(&["0123abcd"]), &written.merge(&shown));
    assert!(gone.is_empty() && set.len() == 1 && set[0].0 == "mainstem-token", "{set:?} {gone:?}");
}

#[test]
fn a_cookie_of_the_same_name_is_overwritten_and_not_deleted() {
    let (together, cookie) = (Together::default(), TokenCookie::signed_by(key()));
    let line = "mainstem-token.0123abcd=x".parse().unwrap();
    let request = HeaderMap::from_iter([(HeaderName::from_static("cookie"), line)]);
    let in_flight = together.enter(&request);
    // Crowded, and few enough that all of them are deleted.
    let names = (0..9).map(|number| format!("mainstem-token.{number:08x}"));
    let taken = Taken { cookies: names.collect(), ..Taken::default() };
    // Seven writes are answered between two reads, so the second one takes the place of all that was given.
    let is_read = |log| log % 8 == 0;
    for log in 0..17 {
        let mut response = HeaderMap::new();
        let token = mark(1, log);
        cookie.give(&mut response, &taken, &Answer { in_flight: Some(&in_flight), ..answer(&token, is_read(log)) });
        let (set, gone) = given(&response);
        let [(name, _)] = &set[..] else { panic!("{set:?}") };
        assert!(!gone.contains(name), "{log}");
    }
}
