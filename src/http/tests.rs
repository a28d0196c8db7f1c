//! What only tokens can show that no store makes: long ones.

use http::{HeaderMap, HeaderName, header::SET_COOKIE};
use uuid::Uuid;

use super::{
    TokenCookie, TokenHeader,
    carrier::{Answer, Taken},
    seal::Seal,
    together::Together,
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
    Answer { token, is_news: true, is_read, is_anew: false, under_way: None }
}

#[test]
fn of_many_logs_a_cookie_has_the_places() {
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
fn what_is_not_known_to_be_anywhere_stays_a_mark() {
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

/// The tokens of the cookies that are set, by name, and how many are taken away.
fn set(response: &HeaderMap) -> (Vec<Token>, usize) {
    let values = response.get_all(SET_COOKIE).iter().map(|line| line.to_str().unwrap());
    let values = values.map(|line| line.split_once(';').unwrap().0.split_once('=').unwrap().1);
    let (gone, set): (Vec<&str>, Vec<&str>) = values.partition(|value| value.is_empty());
    (set.iter().map(|text| key().verify(text).unwrap()).collect(), gone.len())
}

#[test]
fn of_one_who_looks_alike_a_cookie_has_places_alone() {
    let (together, cookie, request) = (Together::default(), TokenCookie::signed_by(key()), HeaderMap::new());
    let requests: Vec<_> = (1..=9).map(|_| together.enter(&request, false)).collect();
    for (log, under_way) in (1..=9).zip(&requests) {
        let (mut response, own) = (HeaderMap::new(), mark(1, log));
        let answer = Answer { under_way: Some(under_way), ..answer(&own, false) };
        cookie.give(&mut response, &Taken::default(), &answer);
        let expected = if log < 9 { (own, 0) } else { (own.merge(&Token::of_place(Some(1), place(1))), 8) };
        let (tokens, gone) = set(&response);
        assert_eq!((tokens, gone), (vec![expected.0], expected.1), "answer {log}");
    }
}

#[test]
fn who_differs_in_anything_is_another_client() {
    let (together, cookie) = (Together::default(), TokenCookie::signed_by(key()));
    let requests = (1..=20).map(|client| {
        let mut request = HeaderMap::new();
        request.insert("cookie", format!("mainstem-token.0123abcd={client}").parse().unwrap());
        together.enter(&request, true)
    });
    for (log, under_way) in (1..).zip(&requests.collect::<Vec<_>>()) {
        let (mut response, own) = (HeaderMap::new(), mark(1, log));
        let answer = Answer { under_way: Some(under_way), ..answer(&own, false) };
        cookie.give(&mut response, &Taken::default(), &answer);
        assert_eq!(set(&response), (vec![own], 0));
    }
}
