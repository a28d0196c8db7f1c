//! How reads of a part of the log are planned: never as a walk through the log in the hope of an early match.

use std::time::Duration;

use mainstem::{
    AppendCondition, ErrorKind, EventStore, Filter, NewEvent, PostgresEventStore, Predicate, Router,
    testing::LocalCluster,
};
use tokio::time::timeout;

use crate::support::started;

const HANG: Duration = Duration::from_secs(60);

async fn store(cluster: &LocalCluster) -> (Router, PostgresEventStore) {
    // Of its one connection the last statement is looked at: a probe would be that.
    let builder = Router::builder().primary(cluster.primary().url()).max_connections(1).probe_interval(None);
    let router = builder.connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    let fill = "INSERT INTO mainstem.events
                    (position, following, id, type, tags, payload, metadata, occurred_at, recorded_at, stream, version)
                SELECT n, 0, gen_random_uuid(), 'Type' || n % 5, ARRAY['tag:' || n % 900, 'common'],
                       jsonb_build_object('key', n % 900, 'text', md5(n::text)), '{}', now(), now(),
                       CASE n % 2 WHEN 0 THEN 'long' ELSE 'short:' || n END, CASE n % 2 WHEN 0 THEN n / 2 ELSE 1 END
                FROM generate_series(1, 60000) n";
    let client = router.client().await.unwrap();
    client.execute(fill, &[]).await.unwrap();
    client.batch_execute("ANALYZE mainstem.events").await.unwrap();
    drop(client);
    (router, store)
}

/// The plan of the statement that this connection has run last, with values as the server was sent them, in both ways of
/// planning.
async fn plans(cluster: &LocalCluster, values: &str) -> [String; 2] {
    let router = Router::builder().primary(cluster.primary().url()).connect().await.unwrap();
    let client = router.client().await.unwrap();
    let last =
        "SELECT query FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE '%\"mainstem\".\"events\"%'
                ORDER BY query_start DESC LIMIT 1";
    let sql: String = client.query_one(last, &[]).await.unwrap().get(0);
    client.batch_execute(&format!("SET jit = off; PREPARE asked AS {sql}")).await.unwrap();
    let mut plans = Vec::new();
    for mode in ["force_custom_plan", "force_generic_plan"] {
        client.batch_execute(&format!("SET plan_cache_mode = {mode}")).await.unwrap();
        let explain = format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE asked{values}");
        let rows = client.query(&explain, &[]).await.unwrap();
        plans.push(rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n"));
    }
    plans.try_into().unwrap()
}

#[tokio::test]
async fn a_part_is_found_by_the_index_that_fits() {
    let cluster = started(LocalCluster::builder().replicas(0).setting("track_activity_query_size", "16kB")).await;
    let (_router, store) = store(&cluster).await;
    let tagged = |tag: &str| Filter::matching().all_tags_of([tag]).finish().unwrap();
    let keyed = Filter::matching().any_predicate_of([Predicate::payload("key", 901)]).finish().unwrap();
    let typed = |event_type: &str| Filter::matching().any_type_of([event_type, "Type4"]).finish().unwrap();
    let ask = async |what: &str, filter: &Filter| {
        let asked = async {
            match what {
                "last" => store.last(filter).await.map(|last| u64::from(last.is_some())),
                "limit" => store.query(filter).limit(3).await.map(|page| page.len() as u64),
                "exists" => store.exists(filter).await.map(|exists| u64::from(*exists)),
                _ => store.count(filter).await.map(|count| *count),
            }
        };
        timeout(HANG, asked).await.expect("no hang").unwrap()
    };
    let tags = |what: &str, tag: &str| match what {
        "last" => format!("(1, '{{{tag}}}')"),
        "limit" => format!("(3, '{{{tag}}}')"),
        _ => format!("('{{{tag}}}')"),
    };
    for what in ["last", "limit", "exists", "count"] {
        // None matches, and few do.
        for (tag, found) in [("tag:none", 0), ("tag:7", 1)] {
            assert_eq!(ask(what, &tagged(tag)).await.min(1), found, "{what} of {tag}");
            for plan in plans(&cluster, &tags(what, tag)).await {
                assert!(plan.contains("Bitmap Index Scan on events_tags"), "{what} of {tag}:\n{plan}");
            }
        }
        assert_eq!(ask(what, &keyed).await, 0);
        let value = r#"'{"key": 901}'"#;
        let values = match what {
            "last" => format!("(1, {value})"),
            "limit" => format!("(3, {value})"),
            _ => format!("({value})"),
        };
        for plan in plans(&cluster, &values).await {
            assert!(plan.contains("Bitmap Index Scan on events_payload"), "{what} of a key:\n{plan}");
        }
    }
    for event_type in ["Type3", "None"] {
        assert_eq!(ask("limit", &typed(event_type)).await, 3);
        for plan in plans(&cluster, &format!("(3, '{{{event_type},Type4}}')")).await {
            assert!(plan.contains("Scan using events_type"), "a limit by type:\n{plan}");
            assert!(!plan.contains("rows=12000"), "all of a type:\n{plan}");
        }
    }
    assert_eq!(ask("last", &Filter::any_event()).await, 1);
    for plan in plans(&cluster, "(1)").await {
        assert!(plan.contains("Index Scan Backward using events_pkey on events e (actual rows=1"), "the last:\n{plan}");
        assert!(!plan.contains("Sort"), "the last one of any:\n{plan}");
    }
    assert_eq!(ask("limit", &Filter::any_event()).await, 3);
    for plan in plans(&cluster, "(3)").await {
        assert!(plan.contains("Index Scan using events_pkey on events e (actual rows=3"), "the first three:\n{plan}");
        assert!(!plan.contains("Sort"), "the first three of any:\n{plan}");
    }
    // What matches often is not gone through to its end for the first.
    assert_eq!(ask("exists", &tagged("common")).await, 1);
    for plan in plans(&cluster, "('{common}')").await {
        assert!(plan.contains("CTE Scan on found (actual rows=1"), "existence of what is everywhere:\n{plan}");
    }
}

/// Reads and judgements that leave the planner no choice are planned once per connection; whoever uses the connection next is not.
#[tokio::test]
async fn a_raw_connection_plans_as_its_settings_say() {
    let (database, admin, _store) = crate::support::store().await;
    let client = admin.client().await.unwrap();
    client
        .batch_execute(&format!("ALTER DATABASE {} SET plan_cache_mode TO force_custom_plan", database.name()))
        .await
        .unwrap();
    let router = Router::builder().primary(database.primary_url()).max_connections(1).connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    let tagged = Filter::matching().all_tags_of(["t"]).finish().unwrap();
    let keyed = Filter::matching().any_predicate_of([Predicate::payload("key", 901)]).finish().unwrap();
    for _ in 0..2 {
        store.query(&tagged).await.unwrap();
        let client = router.client().await.unwrap();
        // By each of the ways to send something.
        client
            .batch_execute("CREATE TEMP TABLE seen AS SELECT current_setting('plan_cache_mode') AS mode")
            .await
            .unwrap();
        let seen: String = client.query_one("SELECT mode FROM seen", &[]).await.unwrap().get(0);
        let sql = "SELECT current_setting('plan_cache_mode') || ' ' || current_setting('enable_seqscan')";
        let now: String = client.query_one(sql, &[]).await.unwrap().get(0);
        assert_eq!((&*seen, &*now), ("force_custom_plan", "force_custom_plan on"));
        drop(client);
        store.query(&tagged).await.unwrap();
        store.count(&tagged).await.unwrap();
        let nobody_wrote = AppendCondition::fail_if_events_match(keyed.clone());
        store.append([NewEvent::new("A", &()).unwrap()], nobody_wrote).await.unwrap();
    }
    // And it is planned once: the server's own statistics of prepared statements say so.
    store.query(&tagged).await.unwrap();
    store.query(&tagged).await.unwrap();
    let client = router.client().await.unwrap();
    for (statement, times) in [("%e.position + 0%", 6), ("%AS broken%", 2)] {
        let sql = "SELECT sum(generic_plans)::int8, sum(custom_plans)::int8 FROM pg_prepared_statements WHERE statement LIKE $1";
        let row = client.query_one(sql, &[&statement]).await.unwrap();
        let (generic, custom): (i64, i64) = (row.get(0), row.get(1));
        assert!(generic >= times && custom == 0, "{generic} generic plans, {custom} custom ones: {statement}");
    }
}

/// What has several ways is planned for its values, and no other call of the connection is.
#[tokio::test]
async fn searches_that_depend_on_their_values_are_planned_for_each_call() {
    let (database, admin, _store) = crate::support::store().await;
    let client = admin.client().await.unwrap();
    let any_value = format!("ALTER DATABASE {} SET plan_cache_mode TO force_generic_plan", database.name());
    client.batch_execute(&any_value).await.unwrap();
    let router = Router::builder().primary(database.primary_url()).max_connections(1).connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    let filter = Filter::matching().any_type_of(["A"]).and_all_tags_of(["t"]).finish().unwrap();
    for _ in 0..7 {
        store.count(&filter).await.unwrap();
        let client = router.client().await.unwrap();
        let row = client.query_one("SELECT current_setting('plan_cache_mode')", &[]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), "force_generic_plan");
    }
    let client = router.client().await.unwrap();
    let sql = "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE $1";
    let row = client.query_one(sql, &[&"%count(*)%e.tags%"]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (0, 7));
}

#[tokio::test]
async fn a_stream_is_loaded_from_its_end_of_its_index() {
    let cluster = started(LocalCluster::builder().replicas(0).setting("track_activity_query_size", "16kB")).await;
    let (_router, store) = store(&cluster).await;
    let long = || store.load_stream("long");
    let cases = [
        (long().limit(3), "('long', 0, 9223372036854775807, 3)", 3),
        (long().newest_first().limit(3), "('long', 0, 9223372036854775807, 3)", 3),
        (long().after_version(29_998), "('long', 29998, 9223372036854775807, NULL)", 2),
        (long().newest_first().before_version(3), "('long', 0, 3, NULL)", 2),
        (store.load_stream("none"), "('none', 0, 9223372036854775807, NULL)", 0),
    ];
    for (load, values, found) in cases {
        assert_eq!(timeout(HANG, load).await.expect("no hang").unwrap().len(), found, "{values}");
        for plan in plans(&cluster, values).await {
            assert_eq!(plan.matches(" events_stream").count(), 2, "{values}:\n{plan}");
            assert!(!plan.contains("Seq Scan") && !plan.contains("events_pkey"), "{values}:\n{plan}");
            // The few of a limit are not looked for among all.
            assert!(values.ends_with("NULL)") || !plan.contains("Sort"), "{values}:\n{plan}");
        }
    }
}

/// What is explained is what is sent, and it is told whether that would read the whole log.
#[tokio::test]
async fn a_condition_is_explained_as_it_is_judged() {
    let cluster = started(LocalCluster::builder().replicas(0)).await;
    let (router, store) = store(&cluster).await;
    let explain = async |store: &PostgresEventStore, filter: &Filter| {
        let condition = AppendCondition::fail_if_events_match(filter.clone());
        let plan = timeout(HANG, store.explain_condition(&condition)).await.expect("no hang").unwrap();
        assert_eq!((plan.node(), plan.to_string()), (&*router.status().nodes[0].name, plan.text().to_owned()));
        plan
    };
    let typed = Filter::matching().any_type_of(["None"]).finish().unwrap();
    let tagged = Filter::matching().all_tags_of(["tag:none"]).finish().unwrap();
    let keyed = Filter::matching().any_predicate_of([Predicate::payload("key", 901)]).finish().unwrap();
    let indexed = [(&typed, "events_type"), (&tagged, "events_tags"), (&keyed, "events_payload")];
    for (filter, index) in indexed {
        let plan = explain(&store, filter).await;
        assert!(plan.text().contains(index) && !plan.reads_whole_log(), "{plan}");
        // That would keep all matches, to return one.
        assert!(!plan.text().contains("CTE Scan on broken"), "{plan}");
    }
    // There is no index on metadata; and of all events the first one is enough.
    let by_metadata = Filter::matching().any_predicate_of([Predicate::metadata("key", 901)]).finish().unwrap();
    let plan = explain(&store, &by_metadata).await;
    assert!(plan.reads_whole_log(), "{plan}");
    let plan = explain(&store, &Filter::any_event()).await;
    assert!(!plan.reads_whole_log() && plan.text().contains("Limit"), "{plan}");
    let nothing = store.explain_condition(&AppendCondition::none()).await.unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::InvalidInput);

    // The only connection remembers what was sent. (For tags that nobody has written about, nothing is.)
    let all = Filter::any_event();
    let typed_and_tagged = Filter::matching().any_type_of(["None"]).and_all_tags_of(["tag:7"]).finish().unwrap();
    for (number, filter) in [&typed, &typed_and_tagged, &keyed, &by_metadata, &all].into_iter().enumerate() {
        for after in [0, 7] {
            let condition = AppendCondition::fail_if_events_match(filter.clone());
            let condition = if after > 0 { condition.after_position(after) } else { condition };
            let event = NewEvent::new("Appended", &number).unwrap();
            let outcome = store.append([event], condition.clone()).await;
            assert_eq!(outcome.is_err(), *filter == all, "{outcome:?}");
            timeout(HANG, store.explain_condition(&condition)).await.expect("no hang").unwrap();
        }
    }
    let client = router.client().await.unwrap();
    let rows = client.query("SELECT statement FROM pg_prepared_statements", &[]).await.unwrap();
    let statements: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let explained = statements.iter().filter_map(|it| it.strip_prefix("EXPLAIN (COSTS OFF) "));
    let judged: Vec<&str> = explained.filter(|it| !it.contains("((e.tags ")).collect();
    assert_eq!(judged.len(), 10, "{judged:#?}");
    for explained in judged {
        assert!(statements.iter().any(|sent| sent == explained), "explained, and never sent: {explained}");
    }
    drop(client);

    for (filter, index) in indexed {
        let client = router.client().await.unwrap();
        client.batch_execute(&format!("DROP INDEX mainstem.{index}")).await.unwrap();
        drop(client);
        let plan = explain(&store, filter).await;
        assert!(plan.reads_whole_log(), "{plan}");
    }
}
