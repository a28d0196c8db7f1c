//! `mainstem verify`.

use mainstem::{AppendCondition, EventStore, ExpectedVersion, NewEvent};

use crate::support::{change, cluster, fill, log, run};

#[tokio::test]
async fn a_whole_log_is_whole_on_every_node() {
    let (_database, urls, store) = log().await;
    fill(&store, "A", 25).await;
    let pair = [NewEvent::new("B", &1).unwrap(), NewEvent::new("B", &2).unwrap()];
    store.append(pair, AppendCondition::none()).to_stream("s", ExpectedVersion::NoStream).await.unwrap();
    let verified = run(&urls, &["verify", "--chunk", "10"]).await.ok();
    let lines: Vec<&str> = verified.lines().collect();
    assert_eq!(lines.len(), 3, "{verified}");
    assert!(lines[0].starts_with("primary ") && lines[0].contains("27 events, up to position 27 ("), "{verified}");
    for line in &lines[1..] {
        assert!(
            line.starts_with("replica ") && line.ends_with("the same as the primary, up to position 27"),
            "{verified}"
        );
    }
}

#[tokio::test]
async fn each_fault_is_found() {
    for (statement, says) in [
        ("DELETE FROM mainstem.events WHERE position = 5", "position 5 has no event, but position 6 has one"),
        ("DELETE FROM mainstem.events WHERE position = 1", "position 1 has no event, but position 2 has one"),
        ("DELETE FROM mainstem.events WHERE position IN (10, 11)", "position 11 has no event, but position 12 has one"),
        ("UPDATE mainstem.events SET following = 3 WHERE position = 4", "the append before position 5 is incomplete"),
        ("UPDATE mainstem.events SET following = 7 WHERE position = 10", "the append before position 11 is incomplete"),
        ("UPDATE mainstem.events SET following = 2 WHERE position = 13", "ends within an append: 2 of its events"),
        ("UPDATE mainstem.events SET version = 4 WHERE version = 3", "position 13 has version 4 of the stream \"s\""),
        (
            "UPDATE mainstem.events SET version = CASE version WHEN 1 THEN 2 ELSE 1 END WHERE version < 3",
            "has version 2 of the stream",
        ),
    ] {
        let (database, urls, store) = log().await;
        fill(&store, "A", 10).await;
        for n in 1..=3 {
            let event = NewEvent::new("B", &n).unwrap();
            store.append([event], AppendCondition::none()).to_stream("s", ExpectedVersion::Any).await.unwrap();
        }
        let statement = statement.replace("SET version = CASE", "SET stream = 't', version = CASE");
        change(&database.primary_url(), &statement).await;
        let verified = run(&urls, &["verify", "--chunk", "10"]).await;
        assert_eq!(verified.status, 20, "{statement}: {verified:#?}");
        assert!(verified.stdout.contains(says), "{statement}: {verified:#?}");
    }
}

#[tokio::test]
async fn a_replica_that_has_other_events_is_told_with_the_first_of_them() {
    // A replica is the primary's copy, so that what differs is another database of it: a wrong URL is found, too.
    let (_database, ours, store) = log().await;
    fill(&store, "A", 25).await;
    let export = run(&ours, &["export", "--primary"]).await.ok();
    let (other, theirs, _store) = log().await;
    crate::support::run_with(&theirs, &["import"], &export).await.ok();
    change(&other.primary_url(), "UPDATE mainstem.events SET payload = '{\"n\": 0}' WHERE position IN (13, 20)").await;
    cluster().await.wait_until_caught_up().await.unwrap();
    let verified = run(&[ours[0].clone(), ours[1].clone(), theirs[2].clone()], &["verify", "--chunk", "10"]).await;
    assert_eq!(verified.status, 20, "{verified:#?}");
    assert!(verified.stdout.contains("FAULT: at position 13 the event"), "{verified:#?}");
    assert!(verified.stdout.contains("the same as the primary, up to position 25"), "{verified:#?}");
    assert!(verified.stdout.contains("is not a prefix of the primary's log"), "{verified:#?}");
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_told() {
    let (_database, urls, store) = log().await;
    fill(&store, "A", 1).await;
    let nowhere = "postgres://ada@127.0.0.1:1/library".to_owned();
    let verified = run(&[urls[0].clone(), nowhere], &["verify"]).await;
    assert!(verified.stdout.contains("127.0.0.1:1: not checked"), "{verified:#?}");
    verified.failed(1, &["one node was not checked"]);
}

/// As an old primary has them, if nobody had waited for the replicas before the failover.
#[tokio::test]
async fn events_that_the_primary_lacks_are_found() {
    let (_database, ours, store) = log().await;
    fill(&store, "A", 25).await;
    let export = run(&ours, &["export", "--primary"]).await.ok();
    let (_other, theirs, other) = log().await;
    crate::support::run_with(&theirs, &["import"], &export).await.ok();
    fill(&other, "A", 3).await;
    cluster().await.wait_until_caught_up().await.unwrap();
    let nodes = [ours[0].clone(), ours[1].clone(), theirs[2].clone()];
    let verified = run(&nodes, &["verify", "--timeout", "1"]).await;
    assert_eq!(verified.status, 20, "{verified:#?}");
    assert!(verified.stderr.contains("one fault was found"), "{verified:#?}");
    assert!(verified.stdout.contains("FAULT: has 3 events that the primary lacks, after position 25"), "{verified:#?}");
    let (same, more) = ("the same as the primary, up to position 25", "; the primary lacks what it has after that");
    assert!(verified.stdout.contains(&format!("{same}\n")), "{verified:#?}");
    assert!(verified.stdout.contains(&format!("{same}{more}\n")), "{verified:#?}");
}

/// What was not looked at is not called the same.
#[tokio::test]
async fn a_node_that_ends_before_the_check_begins_is_not_compared() {
    let (_database, ours, store) = log().await;
    fill(&store, "A", 5).await;
    let (_other, theirs, _store) = log().await;
    let export = run(&ours, &["export", "--primary"]).await.ok();
    crate::support::run_with(&theirs, &["import"], &export).await.ok();
    fill(&store, "A", 22).await;
    cluster().await.wait_until_caught_up().await.unwrap();
    let nodes = [ours[0].clone(), ours[1].clone(), theirs[2].clone()];
    let verify = async |after: &str| run(&nodes, &["verify", "--timeout", "1", "--after", after]).await;
    for after in ["5", "10", "27"] {
        let verified = verify(after).await;
        assert!(verified.stdout.contains("not compared: it ends at position 5, 22 events behind"), "{verified:#?}");
        assert_eq!(verified.stdout.matches("the same as the primary").count(), 1, "{verified:#?}");
        verified.failed(1, &["one node was not checked"]);
    }
    let verified = verify("4").await.ok();
    assert!(verified.contains("the same as the primary, up to position 5; it is 22 events behind"), "{verified}");
    for after in ["28", "18446744073709551615"] {
        verify(after).await.failed(2, &[&format!("--after {after} is beyond the log, which ends at position 27")]);
    }
}

/// The check begins in the middle, and before that they are different.
#[tokio::test]
async fn a_node_of_another_history_is_found_by_the_event_that_the_check_begins_after() {
    let (_database, ours, store) = log().await;
    fill(&store, "A", 5).await;
    let (_other, theirs, other) = log().await;
    fill(&other, "A", 5).await;
    cluster().await.wait_until_caught_up().await.unwrap();
    let nodes = [ours[0].clone(), theirs[1].clone()];
    let verified = run(&nodes, &["verify", "--after", "5"]).await;
    assert_eq!(verified.status, 20, "{verified:#?}");
    assert!(verified.stdout.contains("FAULT: position 5 has event "), "{verified:#?}");
}

/// It still runs, and its events after the promotion are nowhere else.
#[tokio::test]
async fn a_running_old_primary_is_compared_whatever_the_order_of_the_nodes() {
    let cluster = crate::support::started(mainstem::testing::LocalCluster::builder()).await;
    let [old, new] = crate::support::nodes(&cluster).try_into().unwrap();
    let store = crate::support::store(std::slice::from_ref(&old)).await;
    fill(&store, "A", 5).await;
    cluster.wait_until_caught_up().await.unwrap();
    cluster.replica(0).promote().await.unwrap();
    fill(&store, "A", 3).await;
    for nodes in [[&new, &old], [&old, &new]] {
        let verified = run(&nodes.map(String::clone), &["verify", "--timeout", "1"]).await;
        assert_eq!(verified.status, 20, "{verified:#?}");
        assert!(
            verified.stdout.contains("FAULT: has 3 events that the primary lacks, after position 5"),
            "{verified:#?}"
        );
    }
}

/// What is appended while they are asked is on all of them, and compared as well.
#[tokio::test]
async fn events_that_have_come_since_are_no_fault() {
    let (_database, urls, store) = log().await;
    fill(&store, "A", 50).await;
    let (appending, verifying) = (fill(&store, "B", 200), async {
        let mut ran = Vec::new();
        for _ in 0..5 {
            ran.push(run(&urls, &["verify"]).await);
        }
        ran
    });
    let ((), ran) = tokio::join!(appending, verifying);
    for verified in ran {
        assert_eq!(verified.ok().matches("the same as the primary").count(), 2);
    }
}

#[tokio::test]
async fn a_replica_that_lags_is_compared_as_far_as_it_is() {
    let cluster = crate::support::started(mainstem::testing::LocalCluster::builder()).await;
    let urls = crate::support::nodes(&cluster);
    let store = crate::support::store(&urls).await;
    fill(&store, "A", 5).await;
    cluster.wait_until_caught_up().await.unwrap();
    cluster.replica(0).pause_replay().await.unwrap();
    fill(&store, "A", 2).await;
    let verified = run(&urls, &["verify", "--timeout", "2"]).await.ok();
    assert!(verified.contains("the same as the primary, up to position 5; it is 2 events behind"), "{verified}");
    cluster.replica(0).resume_replay().await.unwrap();
    let verified = run(&urls, &["verify"]).await.ok();
    assert!(verified.contains("the same as the primary, up to position 7\n"), "{verified}");
}

/// The other replica and the primary are checked to the end, and what was found is the exit status.
#[tokio::test]
async fn a_replica_that_falls_silent_hides_no_fault() {
    let (database, mut urls, store) = log().await;
    fill(&store, "A", 400).await;
    change(&database.primary_url(), "DELETE FROM mainstem.events WHERE position = 5").await;
    cluster().await.wait_until_caught_up().await.unwrap();
    let proxy = cluster().await.replica(0).proxy().unwrap();
    let port = format!(":{}/", cluster().await.replica(0).port());
    urls[1] = urls[1].replacen(&port, &format!(":{}/", proxy.port()), 1);
    assert!(urls[1].contains(&proxy.port().to_string()), "{urls:?}");
    // Of four hundred answers the first ones come.
    proxy.silence_after(20_000);
    let verified = run(&urls, &["verify", "--chunk", "1", "--timeout", "2"]).await;
    assert_eq!(verified.status, 20, "{verified:#?}");
    assert!(verified.stdout.contains("FAULT: events are missing after position 4"), "{verified:#?}");
    assert!(verified.stdout.contains("not checked after position"), "{verified:#?}");
    assert!(verified.stdout.contains("the same as the primary, up to position 400"), "{verified:#?}");
}
