//! Runs the programs as their users do, and checks that `observability` uses only metrics that exist.

mod collector;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use mainstem::{
    AppendCondition, EventStore, Filter, NewEvent, PostgresEventStore, Router,
    telemetry::metrics::{ALL, MetricDescription, MetricKind},
    testing::LocalCluster,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    time::{sleep, timeout},
};

use self::collector::Collector;

const HANG: Duration = Duration::from_secs(120);

/// Metrics that only failures record, so that a quiet run has none of them; `metrics::whole` of the library's own tests
/// covers them.
const NOT_IN_A_QUIET_RUN: [&str; 4] = [
    "db.client.connection.timeouts",
    "mainstem.fallback.exhaustions",
    "mainstem.node.ejections",
    "mainstem.primary.changes",
];

fn prometheus_name(name: &str) -> String {
    name.replace('.', "_")
}

/// Starts the program with its metrics at this address, and a collector.
fn start(page: &str, collector: &Collector) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_observability"));
    command.env("METRICS_ADDRESS", page).env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url());
    command.env("OTEL_SERVICE_NAME", "shop-under-test").env("OTEL_METRIC_EXPORT_INTERVAL", "500");
    command.env_remove("MAINSTEM_URL").env_remove("RUST_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
    command.arg("600").spawn().expect("the program")
}

async fn scrape(page: &str) -> std::io::Result<String> {
    let mut connection = TcpStream::connect(page).await?;
    connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// The names of the series on a page.
fn series(page: &str) -> BTreeSet<String> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let names = lines.filter_map(|line| line.split(['{', ' ']).next());
    names.filter(|name| name.contains('_')).map(str::to_owned).collect()
}

fn is_on(page: &BTreeSet<String>, metric: &MetricDescription) -> bool {
    let name = prometheus_name(metric.name);
    let suffix = if metric.kind == MetricKind::Histogram { "_bucket" } else { "" };
    page.contains(&(name + suffix))
}

/// Interrupts the program as a user does, and returns its output.
async fn interrupt(mut program: Child) -> Output {
    let pid = program.id().expect("it runs").to_string();
    let killed = Command::new("kill").args(["-INT", &pid]).status().await.expect("kill");
    assert!(killed.success());
    // Read while it ends, so that a full pipe does not block it.
    let _ = program.stdin.take();
    timeout(HANG, program.wait_with_output()).await.expect("it ends").expect("its output")
}

#[tokio::test]
async fn the_program_exports_each_documented_figure_and_traces_and_logs_with_the_same_ids() {
    let collector = Collector::start().await;
    let page = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let mut program = start(&page, &collector);
    // Its lines are read as they come: a full pipe would block it.
    let mut stdout = program.stdout.take().expect("its lines");
    let lines = tokio::spawn(async move {
        let mut lines = String::new();
        stdout.read_to_string(&mut lines).await.expect("its lines");
        lines
    });

    let expected: Vec<&MetricDescription> =
        ALL.iter().filter(|metric| !NOT_IN_A_QUIET_RUN.contains(&metric.name)).collect();
    let mut missing: Vec<&str> = Vec::new();
    let all_there = async {
        loop {
            let found = series(&scrape(&page).await.unwrap_or_default());
            let is_missing = |metric: &&&MetricDescription| !is_on(&found, metric);
            missing = expected.iter().filter(is_missing).map(|metric| metric.name).collect();
            if missing.is_empty() {
                return found;
            }
            sleep(Duration::from_millis(200)).await;
        }
    };
    let outcome = timeout(HANG, all_there).await;
    let found = outcome.unwrap_or_else(|_| panic!("never on the page: {missing:?}"));
    // Every name that the dashboard and the rules use is on the page, or recorded by failures only.
    for (file, name) in used_names() {
        let base = name.trim_end_matches("_bucket").trim_end_matches("_count").trim_end_matches("_sum");
        let is_rare = NOT_IN_A_QUIET_RUN.iter().any(|rare| prometheus_name(rare) == base);
        assert!(found.contains(&name) || is_rare, "{file} uses {name}, which the program does not tell");
    }

    // The collector gets all of it, at the exporters' intervals and at the end.
    let output = interrupt(program).await;
    assert!(output.status.success(), "{output:?}");
    let told = collector.told();
    assert_eq!(told.services, BTreeSet::from(["shop-under-test".to_owned()]));
    let figures: BTreeSet<&str> = told.figures.iter().map(String::as_str).collect();
    let missing: Vec<_> = expected.iter().filter(|metric| !figures.contains(metric.name)).collect();
    assert!(missing.is_empty(), "never at the collector: {missing:#?}");
    for name in ["append", "query", "execute", "load_model", "handle", "commit", "project", "day"] {
        assert!(told.spans.iter().any(|span| span.name == name), "no span {name}");
    }
    // A command's append is in the command's trace.
    let is_within = |span: &&collector::Span| {
        let parent = told.spans.iter().find(|parent| parent.id == span.parent && parent.trace == span.trace);
        span.name == "append" && parent.is_some_and(|parent| parent.name == "execute")
    };
    assert!(told.spans.iter().any(|span| is_within(&span)), "no append within a command");
    let spans: BTreeSet<_> = told.spans.iter().map(|span| (span.trace.clone(), span.id.clone())).collect();
    let logged: Vec<_> = told.logs.iter().filter(|log| log.body == "the shop has closed").collect();
    assert!(!logged.is_empty() && logged.iter().all(|log| spans.contains(&(log.trace.clone(), log.span.clone()))));

    // The same holds for the lines for people.
    let lines = lines.await.unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let id = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    let closed: Vec<_> = lines.iter().filter(|line| line["message"] == "the shop has closed").collect();
    assert!(!closed.is_empty());
    for line in closed {
        assert!(spans.contains(&(id(line, "trace_id"), id(line, "span_id"))), "{line}");
    }
    let open = lines.iter().find(|line| line["message"] == "the shop is open").expect("it has opened");
    assert!(open.get("trace_id").is_none(), "it is in no span: {open}");
    assert!(lines.iter().all(|line| line["level"] != "DEBUG"), "only what matters is for people");
}

#[tokio::test]
async fn on_somebodys_cluster_it_keeps_to_a_schema_of_its_own() {
    let cluster = LocalCluster::builder().replicas(0).start().await.unwrap();
    let url = cluster.primary().url();
    let router = Router::builder().primary(&url).connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    let noted = NewEvent::new("CopySold", &serde_json::json!({})).unwrap();
    store.append([noted], AppendCondition::none()).await.unwrap();
    let client = router.client().await.unwrap();
    client.batch_execute("CREATE TABLE sales (book text); INSERT INTO sales VALUES ('theirs')").await.unwrap();

    let mut program = Command::new(env!("CARGO_BIN_EXE_observability"));
    program.env("MAINSTEM_URL", &url).env("METRICS_ADDRESS", "127.0.0.1:0").env_remove("OTEL_EXPORTER_OTLP_ENDPOINT");
    let output = timeout(HANG, program.arg("5").stdin(Stdio::null()).output()).await.expect("it ends").unwrap();
    assert!(output.status.success(), "{output:?}");

    assert_eq!(*store.count(&Filter::any_event()).await.unwrap(), 1, "nothing is in their log");
    let number = async |sql: &str| client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(number("SELECT count(*) FROM sales WHERE book = 'theirs'").await, 1);
    let reader = "SELECT count(*) FROM mainstem.events_consumers";
    assert_eq!(number(reader).await, 0, "nobody follows their log");
    assert!(number("SELECT count(*) FROM mainstem_observability.sales").await > 0, "the shop has sold something");
}

#[tokio::test]
async fn json_logs_are_lines_with_the_fields_of_their_spans() {
    let run = async |filter: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_json-logs"));
        let output = command.env("RUST_LOG", filter).output().await.expect("the program");
        assert!(output.status.success(), "{output:?}");
        let lines = String::from_utf8(output.stdout).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).expect(line)).collect::<Vec<Value>>()
    };
    let quiet = run("info").await;
    let greeted = quiet.iter().find(|line| line["fields"]["message"] == "greeted").expect("a line");
    assert_eq!((&greeted["span"]["name"], &greeted["span"]["id"]), (&"request".into(), &17.into()));
    assert!(quiet.iter().all(|line| line["target"] != "mainstem::store"));
    let all = run("info,mainstem=debug").await;
    let append = all.iter().find(|line| line["span"]["name"] == "append").expect("the span of the append");
    assert_eq!(append["span"]["mainstem.outcome"], "succeeded");
    assert!(all.iter().all(|line| !line.to_string().contains("world")), "a payload is in no line");
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../observability")
}

/// The names of series in the dashboard's queries and in the rules, each with its file.
fn used_names() -> Vec<(String, String)> {
    let is_of_a_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let mut names = Vec::new();
    for file in ["grafana/dashboards/mainstem.json", "prometheus/rules.yml"] {
        let text = fs::read_to_string(folder().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let expressions: Vec<String> = match file.ends_with(".json") {
            true => expressions(&serde_json::from_str(&text).expect(file)),
            false => text.lines().filter_map(|line| Some(line.trim().strip_prefix("expr: ")?.to_owned())).collect(),
        };
        assert!(!expressions.is_empty(), "{file} asks for nothing");
        for expression in &expressions {
            // Without what is in braces and after `by`: those are labels, some of which share a metric's name.
            let bare = without(&without(expression, "{", "}"), "by (", ")");
            let words = bare.split(|character| !is_of_a_name(character));
            let is_series = |word: &&str| word.starts_with("mainstem_") || word.starts_with("db_client_");
            let of_it: Vec<&str> = words.filter(is_series).collect();
            assert!(!of_it.is_empty(), "{expression} of {file} asks for none of ours");
            names.extend(of_it.into_iter().map(|name| (file.to_owned(), name.to_owned())));
        }
    }
    names
}

/// A text without the parts between these two.
fn without(text: &str, open: &str, close: &str) -> String {
    let mut parts = text.split(open);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |left, part| left + part.split_once(close).map_or("", |(_, behind)| behind))
}

/// All values named `expr` in it.
fn expressions(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            let own = fields.get("expr").and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(fields.values().flat_map(expressions)).collect()
        }
        Value::Array(values) => values.iter().flat_map(expressions).collect(),
        _ => Vec::new(),
    }
}
