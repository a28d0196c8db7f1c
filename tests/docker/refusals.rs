//! The error for a cluster that cannot exist.

use std::{env, time::Duration};

use mainstem::{
    ErrorKind,
    testing::{DockerCluster, TestCluster, TestNode},
};

use crate::{engine_answers, started};

#[tokio::test]
async fn an_image_that_nobody_has_is_named() {
    if !engine_answers().await {
        return;
    }
    // A registry on a port where nobody listens.
    let error = DockerCluster::builder().image("127.0.0.1:1/nobody:18").start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{}", error.report());
    assert!(error.to_string().contains("127.0.0.1:1/nobody:18"), "{error}");
}

#[tokio::test]
async fn a_node_that_does_not_come_up_shows_the_end_of_its_log() {
    if !engine_answers().await {
        return;
    }
    let error = DockerCluster::builder().setting("shared_buffers", "many").start().await.unwrap_err();
    assert_eq!((error.kind(), error.node()), (ErrorKind::Unavailable, Some("node_1")), "{}", error.report());
    let text = error.to_string();
    assert!(text.contains("ended with status") && text.contains("shared_buffers"), "{text}");
}

#[tokio::test]
async fn a_node_that_is_not_ready_in_time_is_given_up() {
    if !engine_answers().await {
        return;
    }
    let error = DockerCluster::builder().start_limit(Duration::from_millis(1)).start().await.unwrap_err();
    assert_eq!((error.kind(), error.node()), (ErrorKind::Timeout, Some("node_1")), "{}", error.report());
}

#[tokio::test]
async fn settings_that_would_break_the_harness_are_refused() {
    let builder = DockerCluster::builder;
    for (builder, words) in [
        (builder().replicas(10), "too many"),
        (builder().setting("port", "1"), "belongs to the test cluster"),
        (builder().image("postgres:"), "no name of an image"),
        (builder().image("postgres@sha256:0123"), "no digest after its @"),
    ] {
        let error = builder.start().await.unwrap_err();
        assert!(error.kind() == ErrorKind::Configuration && error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn settings_are_in_force_and_the_password_is_shown_nowhere() {
    if !engine_answers().await {
        return;
    }
    let cluster = started(DockerCluster::builder().setting("work_mem", "7MB")).await;
    for node in cluster.nodes() {
        let (client, connection) = tokio_postgres::connect(&node.url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        let row = client.query_one("SELECT current_setting('work_mem'), current_setting('fsync')", &[]).await.unwrap();
        assert_eq!((row.get(0), row.get(1)), ("7MB", "off"));
        assert!(node.log().await.unwrap().contains("ready to accept"), "{node:?}");
    }
    let url = cluster.primary().url();
    let password = url.split(['/', ':', '@']).nth(4).unwrap();
    assert!(password.len() == 32 && !format!("{cluster:?}").contains(password), "{cluster:?}");
}

/// In a separate process: the environment is shared by all tests.
#[tokio::test]
async fn without_an_engine_the_error_says_so() {
    const CHILD: &str = "MAINSTEM_TEST_CHILD";
    if env::var_os(CHILD).is_some() {
        for error in [DockerCluster::find_engine().await.unwrap_err(), DockerCluster::start().await.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
            assert!(error.to_string().contains("no Docker engine answers"), "{error}");
        }
        assert!(!engine_answers().await);
        return;
    }
    let mut child = tokio::process::Command::new(env::current_exe().unwrap());
    child.args(["--exact", "refusals::without_an_engine_the_error_says_so", "--nocapture"]);
    child.env(CHILD, "1").env("DOCKER_HOST", "tcp://127.0.0.1:1");
    let output = tokio::time::timeout(Duration::from_secs(60), child.output()).await.expect("in time").unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && text.contains("SKIPPED: no Docker engine answers"), "{text}");
}
