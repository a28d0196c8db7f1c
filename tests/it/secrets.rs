//! Passwords appear in no error, no `Debug` output and no log line.

use std::{
    fmt::{Debug, Write},
    sync::{Arc, Mutex},
};

use mainstem::{Consistency, ErrorKind, Router};
use tracing::{
    Dispatch, Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::set_default,
};

use crate::support::{cluster, database};

const SECRET: &str = "hunter2";

/// Keeps all that is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Log {
    fn record(&self, record: impl FnOnce(&mut dyn Visit)) {
        struct Text<'a>(&'a mut String);
        impl Visit for Text<'_> {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                writeln!(self.0, "{field}: {value:?}").unwrap();
            }
        }
        record(&mut Text(&mut self.0.lock().unwrap()));
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        self.record(|visit| attributes.record(visit));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        Self::record(self, |visit| values.record(visit));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        Self::record(self, |visit| event.record(visit));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn passwords_never_appear_in_errors_debug_output_or_logs() {
    let log = Log::default();
    // With one subscriber only, other threads, which have none, would switch places in the code off for us too.
    let _second = Dispatch::new(Log::default());
    let _here = set_default(log.clone());
    let cluster = cluster().await;
    let port = cluster.primary().port();
    let wrong = [
        format!("postgres://mainstem:{SECRET}@127.0.0.1:{port}/postgres"),
        format!("postgres://mainstem:{SECRET}@127.0.0.1:{port}/postgres?channel_binding=require"),
        format!("postgres://mainstem:{SECRET}@127.0.0.1:1/postgres"),
        format!("postgres://mainstem:{SECRET}@:{SECRET}/postgres"),
        format!("postgres://mainstem:{SECRET}@h/d?sslmode={SECRET}"),
        format!("postgres://mainstem:{SECRET}@h/d?sslmode=verify-full&sslrootcert=/nowhere"),
        format!("postgres://mainstem:{SECRET}@h/d?{SECRET}={SECRET}"),
        format!("host=127.0.0.1 port={port} user=mainstem password='{SECRET}"),
        format!("host=127.0.0.1 port={port} user=mainstem password={SECRET} sslmode=no"),
    ];
    let mut said = String::new();
    for url in wrong {
        let builder = Router::builder().primary(url);
        writeln!(said, "{builder:?}").unwrap();
        let error = builder.connect().await.unwrap_err();
        writeln!(said, "{error} {error:?} {error:#?} {}", error.report()).unwrap();
        assert!(matches!(error.kind(), ErrorKind::Configuration | ErrorKind::Unavailable));
    }
    let database = database().await;
    let good = Router::builder().primary(database.primary_url()).replicas(database.replica_urls());
    let router = good.connect().await.unwrap();
    let client = router.client().await.unwrap();
    let error = client.batch_execute("nonsense").await.unwrap_err();
    let replica = router.client_at(Consistency::Eventual).await.unwrap();
    writeln!(said, "{router:?} {client:?} {replica:?} {:?} {error:?}", router.status()).unwrap();
    let url = database.primary_url();
    let password = url.split(['@', ':']).nth(2).unwrap();
    assert!(password.len() > 8 && url.contains(&format!(":{password}@")), "no password of the cluster");
    let logged = log.text();
    assert!(logged.contains("routed"), "the log has nothing in it: {logged:?}");
    for secret in [SECRET, password] {
        assert!(!said.contains(secret), "{said}");
        assert!(!logged.contains(secret), "{logged}");
    }
}
