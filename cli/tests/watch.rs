//! `mainstem watch`.

use mainstem::testing::LocalCluster;

use crate::support::{fill, nodes, run, start, started, store};

#[tokio::test]
async fn watch_once_shows_the_primary_and_every_node() {
    let cluster = started(LocalCluster::builder().replicas(2)).await;
    let urls = nodes(&cluster);
    store(&urls).await;
    let picture = run(&urls, &["watch", "--once", "--interval", "0.5"]).await.ok();
    let lines: Vec<&str> = picture.lines().collect();
    assert_eq!(lines.len(), 5, "{picture}");
    assert!(lines[0].starts_with(&format!("primary 127.0.0.1:{}, timeline 1", cluster.primary().port())), "{picture}");
    for (node, line) in cluster.nodes().iter().zip(&lines[2..]) {
        assert!(line.starts_with(&format!("127.0.0.1:{}", node.port())), "{picture}");
        assert!(line.contains("serves") && line.contains(" ms"), "{picture}");
    }
    assert!(!picture.contains('\x1b'), "no terminal, no escapes: {picture:?}");
}

#[tokio::test]
async fn lines_come_until_ctrl_c_and_say_who_is_out_and_why() {
    let cluster = started(LocalCluster::builder().replicas(1)).await;
    let urls = nodes(&cluster);
    let store = store(&urls).await;
    let mut watch = start(&urls, &["watch", "--interval", "0.2"]);
    while !watch.line().await.contains("replica") {}
    cluster.replica(0).kill().await.unwrap();
    fill(&store, "A", 1).await;
    let (mut line, mut lines) = (String::new(), 0);
    while !line.contains("OUT for") {
        line = watch.line().await;
        lines += 1;
        assert!(lines < 500, "{line}");
    }
    assert!(line.contains(&format!("127.0.0.1:{}", cluster.replica(0).port())), "{line}");
    let end = watch.interrupt().await;
    assert_eq!((end.status, &*end.stderr), (0, ""), "{end:?}");
}
