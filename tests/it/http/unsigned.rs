//! Unsigned headers beside cookies: nothing that a client invents gets signed.

use mainstem::{
    Error, ErrorKind, EventStore, Filter, MemoryEventStore, Token, current_session,
    http::{TokenHeader, TokenLayer, error_response},
};
use tower::Layer;

use super::{
    Response, answer, cookie,
    cookies::{Jar, written},
    handler, key, request, silent, values,
};

/// A cookie and an unsigned header, the one around the other and the other way round.
fn layers() -> [[TokenLayer; 2]; 2] {
    let (cookie, header) = (TokenLayer::new(cookie()), TokenLayer::new(TokenHeader::unsigned()));
    [[cookie.clone(), header.clone()], [header, cookie]]
}

fn header(response: &Response) -> Token {
    values(response, "mainstem-token")[0].parse().unwrap()
}

#[tokio::test]
async fn a_token_from_an_unsigned_header_is_never_signed() {
    for [outer, inner] in layers() {
        let (store, made_up) = (MemoryEventStore::new(), written(&MemoryEventStore::new()).await);
        let mut service = outer.layer(inner.layer(handler(store.clone())));
        let mut jar = Jar::default();
        for method in ["POST", "GET", "POST"] {
            let headers = [("cookie", &*jar.line()), ("mainstem-token", &made_up.to_string())];
            let response = answer(&mut service, request(method, &headers)).await;
            jar.keep(&response);
            let own = store.last(&Filter::any_event()).await.unwrap().token().clone();
            assert_eq!(jar.token(), own, "{method}: the cookie has what the server has told");
            if method == "POST" {
                assert_eq!(header(&response), own.merge(&made_up), "{method}: and the header what it was held to");
            }
        }
    }
}

#[tokio::test]
async fn a_read_that_confirms_an_unsigned_token_sets_a_signed_cookie() {
    for [outer, inner] in layers() {
        let store = MemoryEventStore::new();
        let own = written(&store).await;
        let mut service = outer.layer(inner.layer(handler(store)));
        let mut jar = Jar::default();
        jar.keep(&answer(&mut service, request("GET", &[("mainstem-token", &own.to_string())])).await);
        assert_eq!(jar.token(), own);
    }
}

#[tokio::test]
async fn a_made_up_token_that_fails_takes_no_cookie_along() {
    let (kept, made_up) = (written(&MemoryEventStore::new()).await, written(&MemoryEventStore::new()).await);
    let line = format!("mainstem-token.0123abcd={}", key().sign(&kept));
    for [outer, inner] in layers() {
        let lost = || {
            let _asked_by_a_read = current_session().unwrap().token();
            error_response(&Error::new(ErrorKind::LogDiverged, "lost"))
        };
        let both = silent(&inner, lost);
        let mut service = outer.layer(both);
        let headers = [("cookie", &*line), ("mainstem-token", &made_up.to_string())];
        let response = answer(&mut service, request("GET", &headers)).await;
        assert_eq!((response.status().as_u16(), values(&response, "set-cookie")), (412, vec![]));
        assert_eq!(header(&response), kept, "the header's own part is given up");
        // It was the cookie's, too: then that is given up next, and not never.
        let headers = [("cookie", &*line), ("mainstem-token", &kept.to_string())];
        let response = answer(&mut service, request("GET", &headers)).await;
        assert_eq!(header(&response), Token::new());
        assert_eq!(values(&response, "set-cookie").len(), 1);
        assert!(values(&response, "set-cookie")[0].contains("Max-Age=0"));
    }
}
