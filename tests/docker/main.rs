//! The tests that need a Docker engine: a target of its own, since building it takes five times as long as the rest.
//! `scripts/test-docker` runs it.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in the functions that tests share")]

use mainstem::{AppendCondition, EventStore, Filter, NewEvent, PostgresEventStore, Router};
use testcontainers_modules::{
    postgres::Postgres,
    testcontainers::{ContainerAsync, ImageExt, runners::AsyncRunner},
};

/// The image: the official one, unless the environment names another.
async fn start() -> ContainerAsync<Postgres> {
    let image = std::env::var("MAINSTEM_POSTGRES_IMAGE").unwrap_or_else(|_| "postgres:18".to_owned());
    let (name, tag) = image.rsplit_once(':').unwrap();
    let started = Postgres::default().with_name(name).with_tag(tag).start().await;
    started.unwrap_or_else(|error| panic!("no container of {image}: {error}; is a Docker engine running?"))
}

#[tokio::test]
async fn a_log_in_a_container_is_migrated_appended_to_and_read() {
    let container = start().await;
    let port = container.get_host_port_ipv4(5432).await.unwrap();
    let url = format!("postgres://postgres:postgres@127.0.0.1:{port}/postgres");
    let router = Router::builder().primary(url).connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    let empty = store.query(&Filter::any_event()).await.unwrap();
    let event = || NewEvent::new("Started", &serde_json::json!({"in": "a container"})).unwrap();
    store.append([event()], empty.unchanged()).await.unwrap();
    assert!(store.append([event()], empty.unchanged()).await.unwrap_err().is_conflict());
    store.append([event()], AppendCondition::none()).await.unwrap();
    assert_eq!(store.query(&Filter::any_event()).await.unwrap().len(), 2);
}
