//! The plans that the server actually executed, including those inside the append procedure: `auto_explain` writes them to its
//! log.

use std::{future::IntoFuture, time::Duration};

use mainstem::{AppendCondition, EventStore, Filter, PostgresEventStore, Router, testing::LocalCluster};
use serde_json::json;

use super::{FEW, LongLog, MANY, SOME, by_predicate, by_tag, by_tag_and_predicate, by_type, by_types_and_tag};
use crate::support::event;

/// After five times the server may make another plan.
const TIMES: usize = 7;

struct Explained<'a> {
    cluster: &'a LocalCluster,
    store: PostgresEventStore,
}

impl<'a> Explained<'a> {
    async fn new(cluster: &'a LocalCluster, log: &LongLog<'_>) -> Self {
        let name = log.database.name();
        let on = [
            "RESET ALL",
            "SET session_preload_libraries = 'auto_explain'",
            "SET auto_explain.log_min_duration = 0",
            "SET auto_explain.log_analyze = on",
            "SET auto_explain.log_timing = off",
            "SET auto_explain.log_nested_statements = on",
        ];
        for what in on {
            let sql = format!("ALTER DATABASE {name} {what}");
            log.admin.client().await.unwrap().batch_execute(&sql).await.unwrap();
        }
        let router = Router::builder().primary(log.database.primary_url()).max_connections(1).probe_interval(None);
        Self { cluster, store: PostgresEventStore::new(&router.connect().await.unwrap()) }
    }

    /// The plans of statements on the log that a call has had carried out, as they are written there.
    async fn plans<T>(&self, call: impl IntoFuture<Output = T>) -> (T, Vec<String>) {
        let before = self.cluster.primary().log().unwrap().len();
        let output = call.into_future().await;
        // A plan is written before the answer is complete.
        let told = self.cluster.primary().log().unwrap().split_off(before);
        let plans = told.split("  plan:\n").skip(1).map(|plan| {
            // What follows begins with the time, and a plan's lines with a tab.
            plan.lines().take_while(|line| line.starts_with('\t')).collect::<Vec<_>>().join("\n")
        });
        (output, plans.filter(|plan| plan.contains(" on events")).collect())
    }
}

/// How many rows the steps of a plan have taken from the log, and put in order.
fn rows(plan: &str) -> i64 {
    let number = |text: &str, name: &str| -> Option<i64> {
        let digits = text.split_once(name)?.1;
        digits.split(|char: char| !char.is_ascii_digit()).next()?.parse().ok()
    };
    let (mut most, mut loops) = (0, 1);
    for line in plan.lines() {
        let actual = line.split_once("(actual rows").map(|(_, actual)| actual);
        if let Some(actual) = actual {
            loops = number(actual, "loops=").unwrap();
            most = most.max(number(actual, "=").unwrap() * loops);
        }
        // They have been looked at as well.
        most = most.max(number(line, "Rows Removed by Filter: ").unwrap_or(0) * loops);
        most = most.max(number(line, "Rows Removed by Index Recheck: ").unwrap_or(0) * loops);
    }
    most
}

/// What is wrong with the plans of a call that has `most` rows to look at, which are found by this index.
fn wrong(plans: &[String], index: &str, most: i64) -> Option<String> {
    let by_index = plans.iter().any(|plan| plan.contains(index));
    let plan = plans.iter().find(|plan| plan.contains("Seq Scan on events") || rows(plan) > most);
    plan.cloned().or_else(|| (!by_index).then(|| format!("no {index} in {plans:#?}")))
}

/// The questions: their name, their filter, how many match it, and by what index they are found.
fn filters() -> Vec<(&'static str, Filter, i64, &'static str)> {
    let (some, many) = (i64::try_from(SOME).unwrap(), i64::try_from(MANY).unwrap());
    vec![
        ("a tag, none", by_tag("nobody"), 0, "events_tags"),
        ("a tag, some", by_tag("some"), some, "events_tags"),
        ("a tag, many", by_tag("many"), many, "events_tags"),
        ("predicates, none", by_predicate("nobody"), 0, "events_payload"),
        ("predicates, some", by_predicate("some"), some, "events_payload"),
        ("predicates, many", by_predicate("many"), many, "events_payload"),
        ("types and a tag, some", by_types_and_tag("some"), some, "events_tags"),
        ("a tag and a predicate, some", by_tag_and_predicate("some"), some, "events_tags"),
        ("a type, none", by_type("Nobody"), 0, "events_type"),
    ]
}

pub(super) async fn hold(cluster: &LocalCluster, log: &LongLog<'_>) {
    let load = log.admin.client().await.unwrap().batch_execute("LOAD 'auto_explain'").await;
    if load.is_err_and(|error| error.sqlstate() == Some("58P01")) {
        eprintln!("SKIPPED: no auto_explain beside these PostgreSQL programs; the plans are not looked at");
        return;
    }
    let explained = Explained::new(cluster, log).await;
    let store = &explained.store;
    let hold = |what: String, plans: &[String], index: &str, most: i64| {
        if let Some(plan) = wrong(plans, index, most) {
            panic!("{what}, of which it should look at {most}:\n{plan}");
        }
    };
    for time in 0..TIMES {
        for (name, filter, found, index) in filters() {
            let most = FEW + found;
            let (history, plans) = explained.plans(store.query(&filter)).await;
            assert_eq!(history.unwrap().len() as i64, found, "{name}");
            hold(format!("{time}: all of {name}"), &plans, index, most);
            let (last, plans) = explained.plans(store.last(&filter)).await;
            assert_eq!(last.unwrap().is_some(), found > 0, "{name}");
            hold(format!("{time}: the last of {name}"), &plans, index, most);
            let (page, plans) = explained.plans(store.query(&filter).newest_first().limit(10)).await;
            let page = page.unwrap();
            assert_eq!(page.len() as i64, found.min(10), "{name}");
            assert!(page.events().is_sorted_by_key(|event| std::cmp::Reverse(event.position())), "{name}");
            hold(format!("{time}: the newest of {name}"), &plans, index, most);
            let guard = AppendCondition::fail_if_events_match(filter);
            let append = store.append([event("Unrelated", json!({}))], guard).timeout(Duration::from_secs(60));
            let (appended, plans) = explained.plans(append).await;
            assert_eq!(appended.is_err_and(|error| error.is_conflict()), found > 0, "{name}");
            hold(format!("{time}: a condition on {name}"), &plans, index, most);
        }
        // From the end of the log, or of a type: what is there is not gone through. One row more is that of the head.
        for (name, filter, index) in
            [("any event", Filter::any_event(), "events_pkey"), ("a type, very many", by_type("Type0"), "events_type")]
        {
            let (last, plans) = explained.plans(store.last(&filter)).await;
            assert!(last.unwrap().is_some(), "{name}");
            hold(format!("{time}: the last of {name}"), &plans, index, 1 + 1);
            let (page, plans) = explained.plans(store.query(&filter).newest_first().limit(10)).await;
            assert_eq!(page.unwrap().len(), 10, "{name}");
            hold(format!("{time}: the newest of {name}"), &plans, index, 10 + 1);
        }
    }

    // It would be noticed: each of them goes through the log without its index.
    for (index, filter) in [("events_tags", by_tag("some")), ("events_payload", by_predicate("some"))] {
        let client = log.admin.client().await.unwrap();
        client.batch_execute(&format!("DROP INDEX mainstem.{index}")).await.unwrap();
        drop(client);
        let (page, plans) = explained.plans(store.query(&filter).newest_first().limit(10)).await;
        assert_eq!(page.unwrap().len(), 10);
        assert!(wrong(&plans, "", FEW).is_some(), "without {index}: {plans:#?}");
    }
}
