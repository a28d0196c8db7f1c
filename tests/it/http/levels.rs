//! The level of a request: by its method, by its route, and nowhere else.

use std::{convert::Infallible, future::pending, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use mainstem::{
    Consistency::{self, AtLeast, Bounded, Eventual, Strong},
    Scope, Token, current_consistency, current_session,
    http::{ConsistencyLayer, TokenLayer},
    with_consistency,
};
use tokio::task::yield_now;
use tower::{Layer, Service, service_fn};

use super::{Request, cookie, request};

const METHODS: [(&str, bool); 12] = [
    ("GET", true),
    ("HEAD", true),
    ("OPTIONS", true),
    ("QUERY", true),
    ("TRACE", true),
    ("POST", false),
    ("PUT", false),
    ("PATCH", false),
    ("DELETE", false),
    ("CONNECT", false),
    ("PROPFIND", false),
    ("get", false),
];

/// The levels when the service is called, when its future is polled first, and when it is polled again.
async fn levels(layer: ConsistencyLayer, method: &str) -> [Consistency; 3] {
    let mut service = layer.layer(service_fn(|_: Request| {
        let called = current_consistency();
        async move {
            let polled = current_consistency();
            yield_now().await;
            Ok::<_, Infallible>([called, polled, current_consistency()])
        }
    }));
    service.call(request(method, &[])).await.unwrap()
}

fn thrice(level: &Consistency) -> [Consistency; 3] {
    [level.clone(), level.clone(), level.clone()]
}

#[tokio::test]
async fn safe_methods_are_eventual_and_all_others_strong() {
    let bounded = Bounded(Duration::from_secs(5));
    for (method, is_safe) in METHODS {
        let expected = if is_safe { Eventual } else { Strong };
        assert_eq!(levels(ConsistencyLayer::by_method(), method).await, thrice(&expected), "{method}");
        let expected = if is_safe { &bounded } else { &Strong };
        let layer = ConsistencyLayer::by_method().reading_at(bounded.clone());
        assert_eq!(levels(layer, method).await, thrice(expected), "{method}");
    }
    assert_eq!(current_consistency(), Strong);
}

#[tokio::test]
async fn a_layer_may_have_one_level_for_all_and_replaces_that_of_the_scope_around() {
    for (method, _) in METHODS {
        with_consistency(Eventual, async {
            assert_eq!(levels(ConsistencyLayer::strong(), method).await, thrice(&Strong), "{method}");
        })
        .await;
        for level in [Eventual, Bounded(Duration::from_secs(1)), AtLeast(Token::new())] {
            assert_eq!(levels(ConsistencyLayer::at(level.clone()), method).await, thrice(&level), "{method}");
        }
    }
}

#[tokio::test]
async fn a_routes_own_layer_wins_and_keeps_session_and_items() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Tenant(u8);
    let inner = ConsistencyLayer::strong().layer(service_fn(async |_: Request| {
        let scope = Scope::current();
        let seen = (scope.consistency().clone(), scope.session().is_some(), scope.get::<Tenant>().copied());
        Ok::<_, Infallible>(http::Response::new(format!("{seen:?}")))
    }));
    let service = TokenLayer::new(cookie()).layer(inner);
    let mut service = ConsistencyLayer::by_method().layer(service);
    let call = || service.call(request("GET", &[]));
    let response = Scope::new().with_item(Tenant(7)).run_sync(call).await.unwrap();
    assert_eq!(*response.body(), format!("{:?}", (Strong, true, Some(Tenant(7)))));
}

#[tokio::test]
async fn a_handler_that_panics_leaves_nothing_on_the_thread() {
    let panics_early = service_fn(|_: Request| {
        if current_consistency() == Eventual {
            panic!("in call");
        }
        async { Ok::<_, Infallible>(http::Response::new(String::new())) }
    });
    let panics_late = service_fn(|_: Request| async {
        yield_now().await;
        assert_ne!(current_consistency(), Eventual, "in the future");
        Ok::<_, Infallible>(http::Response::new(String::new()))
    });
    let mut early = TokenLayer::new(cookie()).layer(ConsistencyLayer::by_method().layer(panics_early));
    let mut late = TokenLayer::new(cookie()).layer(ConsistencyLayer::by_method().layer(panics_late));
    let get = || request("GET", &[]);
    assert!(AssertUnwindSafe(async { early.call(get()).await }).catch_unwind().await.is_err());
    assert_eq!((current_consistency(), current_session().is_some()), (Strong, false));
    assert!(AssertUnwindSafe(late.call(get())).catch_unwind().await.is_err());
    assert_eq!((current_consistency(), current_session().is_some()), (Strong, false));
    // And the services go on.
    late.call(request("POST", &[])).await.unwrap();
    early.call(request("POST", &[])).await.unwrap();
}

#[tokio::test]
async fn a_request_that_is_cancelled_ends_in_its_scope_and_leaves_nothing() {
    struct Told(tokio::sync::mpsc::UnboundedSender<(Consistency, bool)>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.send((current_consistency(), current_session().is_some())).unwrap();
        }
    }
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let hangs = service_fn(move |_: Request| {
        let guard = Told(sender.clone());
        async move {
            let _guard = guard;
            pending::<Result<http::Response<String>, Infallible>>().await
        }
    });
    let mut service = TokenLayer::new(cookie()).layer(ConsistencyLayer::by_method().layer(hangs));
    for polls in 0..3 {
        let mut response = Box::pin(service.call(request("GET", &[])));
        for _ in 0..polls {
            assert!(response.as_mut().now_or_never().is_none());
            assert_eq!((current_consistency(), current_session().is_some()), (Strong, false));
        }
        drop(response);
        assert_eq!(told.try_recv().unwrap(), (Eventual, true), "after {polls} polls");
        assert_eq!((current_consistency(), current_session().is_some()), (Strong, false));
    }
}
