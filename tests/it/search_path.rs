//! What others create in a schema of the caller's `search_path`.

use mainstem::{
    AppendCondition, Consistency, ErrorKind, EventStore, ExpectedVersion, Filter, PostgresEventStore, Router,
};
use serde_json::json;

use crate::support::{event, store};

/// Whoever may create in a schema of the caller's path could otherwise answer for PostgreSQL: a function for just these
/// types is preferred to one for any type.
#[tokio::test]
async fn functions_in_the_callers_path_are_never_taken_for_the_servers() {
    let (database, admin, _store) = store().await;
    let bait = |kind: &str, arguments: &str, returns: &str| {
        format!(
            "CREATE FUNCTION public.{kind}({arguments}) RETURNS {returns} LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'bait taken: {kind}'; END $$;"
        )
    };
    let operator = |symbol: &str, name: &str, ty: &str| {
        format!("CREATE OPERATOR public.{symbol} (LEFTARG = {ty}, RIGHTARG = {ty}, FUNCTION = public.{name});")
    };
    let mut sql = String::new();
    for ty in ["uuid[]", "text[]", "jsonb[]", "timestamptz[]", "int8[]", "int4[]"] {
        sql += &bait("cardinality", &format!("x {ty}"), "int4");
        sql += &bait("unnest", &format!("x {ty}"), &format!("SETOF {}", &ty[..ty.len() - 2]));
        sql += &bait("generate_subscripts", &format!("x {ty}, y int4"), "SETOF int4");
    }
    for ty in ["text[]", "text", "uuid", "jsonb"] {
        sql += &bait("to_jsonb", &format!("x {ty}"), "jsonb");
        sql += &bait("equals", &format!("x {ty}, y {ty}"), "bool");
        sql += &operator("=", "equals", ty);
        sql += &bait("contains", &format!("x {ty}, y {ty}"), "bool");
        sql += &operator("@>", "contains", ty);
        sql += &bait("count", &format!("x {ty}"), "int8");
    }
    sql += &bait("array_position", "x text[], y text", "int4");
    sql += &bait("array_fill", "x int8, y int4[]", "int8[]");
    sql += &bait("jsonb_array_elements", "x jsonb", "SETOF jsonb");
    sql += &bait("jsonb_array_elements_text", "x jsonb", "SETOF text");
    sql += &bait("set_config", "x varchar, y text, z bool", "text");
    sql += &bait("current_setting", "x varchar", "text");
    sql += &bait("pg_logical_emit_message", "x bool, y varchar, z varchar", "pg_lsn");
    for arguments in ["int4", "oid", "regtype"] {
        sql += &bait("pg_typeof", &format!("x {arguments}"), "regtype");
    }
    sql += &bait("unnest", "x int2[]", "SETOF int2");
    for arguments in ["x text", "x text, y text", "x text, y text, z text", "x text, y name", "x text, y text, z name"]
    {
        sql += &bait("format", arguments, "text");
    }
    sql += &bait("parse_ident", "x text", "text[]");
    sql += &bait("starts_with", "x name, y text", "bool");
    sql += &bait("quote_ident", "x name", "text");
    for (symbol, name, left, right) in [
        ("&", "int2_and", "int2", "int4"),
        ("<>", "names_differ", "name[]", "name[]"),
        ("=", "oid_is", "oid", "regclass"),
        ("<>", "oid_is_not", "oid", "regcollation"),
        ("=", "type_is", "regtype", "regtype"),
        ("<>", "vectors_differ", "int2vector", "int2vector"),
        ("->", "jsonb_member", "jsonb", "jsonb"),
    ] {
        sql += &bait(name, &format!("x {left}, y {right}"), "int4");
        sql += &format!(
            "CREATE OPERATOR public.{symbol} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = public.{name});"
        );
    }
    admin.client().await.unwrap().batch_execute(&sql).await.unwrap();
    let taken = admin.client().await.unwrap().query("SELECT cardinality(ARRAY['a'])", &[]).await.unwrap_err();
    assert!(taken.to_string().contains("bait taken"), "{taken}");

    // One connection: who leaves something on it is found out by the next call.
    let router = Router::builder().primary(database.primary_url()).max_connections(1).connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    let all = Filter::matching().any_type_of(["A"]).and_all_tags_of(["t"]).finish().unwrap();
    let history = store.query(&all).await.unwrap();
    let tagged = event("A", json!({})).with_tag("t");
    let append = |events| store.append(events, history.unchanged()).to_stream("s", ExpectedVersion::NoStream);
    append([tagged.clone()]).await.unwrap();
    assert!(append([tagged]).await.unwrap().is_repeated());
    assert_eq!(store.load_stream("s").await.unwrap().version(), 1);
    for condition in [history.unchanged(), AppendCondition::fail_if_events_match(all.clone())] {
        assert!(store.append([event("A", json!({}))], condition).await.unwrap_err().is_conflict());
    }
    assert_eq!(store.query(&all).await.unwrap().len(), 1);
    assert_eq!(store.migrate().await.unwrap().applied.len(), 0);
    store.check().await.unwrap_or_else(|error| panic!("{}", error.report()));
    // A fault has a text of its own to be made.
    admin
        .client()
        .await
        .unwrap()
        .batch_execute("ALTER PROCEDURE mainstem.events_append_1 RENAME TO events_append_0")
        .await
        .unwrap();
    let fault = store.check().await.unwrap_err();
    assert!(fault.kind() == ErrorKind::Schema && fault.to_string().contains("events_append_0"), "{}", fault.report());
    admin
        .client()
        .await
        .unwrap()
        .batch_execute("ALTER PROCEDURE mainstem.events_append_0 RENAME TO events_append_1")
        .await
        .unwrap();
    let few = Filter::matching().any_type_of(["A"]).finish().unwrap();
    let level = Consistency::AtLeast(history.token().clone());
    assert_eq!(store.query(&few).limit(1).consistency(level).await.unwrap().len(), 1);
    let mut consumer = store.consumer("c", &all).consistency(Consistency::Strong).build().unwrap();
    let batch = loop {
        let batch = consumer.next_batch().await.unwrap().unwrap_or_else(|error| panic!("{}", error.report()));
        if !batch.is_empty() {
            break batch;
        }
    };
    consumer.commit(&batch).await.unwrap_or_else(|error| panic!("{}", error.report()));
}
