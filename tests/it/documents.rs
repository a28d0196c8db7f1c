//! The manual (`docs`): what it says about settings is what the code does, its programs are those of `examples`, and its
//! links lead somewhere.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    fs,
    path::{Path, PathBuf},
};

use mainstem::{
    CommandExecutor, Filter, Import, MemoryEventStore, PostgresEventStore, ReadModelsBuilder, ReplicaOptions, Router,
    SnapshotKey, SnapshotStore, Start, Subscribe, WaitUntilHandled,
    schema::{CreateIndex, DropIndex, Migrate},
};

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn pages() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".md")).collect();
    names.sort_unstable();
    names.into_iter().map(|name| (name.clone(), page(&format!("docs/{name}")))).collect()
}

/// The settings of the page of limits, `Type::method`, with the default in the words of `Debug`.
fn settings() -> BTreeMap<String, String> {
    let page = page("docs/limits.md");
    let rows = page.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let name = cells.next()?.strip_suffix('`')?;
        Some((name.to_owned(), cells.next()?.trim_matches('`').to_owned()))
    });
    rows.filter(|(name, _)| name.contains("::")).collect()
}

/// The value of a field in what `Debug` prints.
fn field(printed: &str, name: &str) -> String {
    let value = printed.split_once(&format!(" {name}: ")).unwrap_or_else(|| panic!("no {name} in {printed}")).1;
    let value = value.split([',', ' ']).next().unwrap_or_default();
    let value = value.strip_prefix("Some(").unwrap_or(value);
    value.trim_end_matches([')', '}']).to_owned()
}

#[cfg(feature = "metrics")]
#[test]
fn the_table_of_metrics_is_the_list_of_metrics() {
    use mainstem::telemetry::metrics::ALL;
    let page = page("docs/telemetry.md");
    let rows = page.lines().filter(|line| line.starts_with("| `db.client.") || line.starts_with("| `mainstem."));
    let of_metrics = rows.filter(|line| line.split('|').count() == 7).map(str::to_owned);
    let row = |metric: &mainstem::telemetry::metrics::MetricDescription| {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let kind = format!("{:?}", metric.kind).to_lowercase();
        format!("| `{}` | {kind} | {} | {} | {} |", metric.name, metric.unit, labels.join(", "), metric.description)
    };
    let (told, listed): (Vec<_>, Vec<_>) = (of_metrics.collect(), ALL.iter().map(row).collect());
    assert_eq!(told, listed, "docs/telemetry.md should have\n{}", listed.join("\n"));
}

#[tokio::test]
async fn the_table_of_defaults_is_what_the_builders_have() {
    let table = settings();
    let mut compared = 0;
    let mut same = |name: &str, actual: &str| {
        assert_eq!(table.get(name).map(String::as_str), Some(actual), "the default of {name}");
        compared += 1;
    };
    let url = "postgres://app@127.0.0.1:1/nobody";
    let printed = format!("{:?}", Router::builder());
    for (method, name) in [
        ("max_connections", "max_connections"),
        ("min_connections", "min_connections"),
        ("max_lifetime", "max_lifetime"),
        ("idle_timeout", "idle_timeout"),
        ("connect_timeout", "connect_timeout"),
        ("acquire_timeout", "acquire_timeout"),
        ("waiting_calls", "waiting_calls"),
        ("call_timeout", "call_timeout"),
        ("statement_cache_capacity", "statements"),
        ("transaction_pooling", "is_pooled"),
        ("require_replicas", "require_replicas"),
        ("zone", "zone"),
        ("fallback", "fallback"),
        ("fallback_rate", "fallback_rate"),
        ("max_replica_lag", "max_replica_lag"),
        ("slow_start", "slow_start"),
        ("max_ejected_percent", "max_ejected_percent"),
        ("probe_interval", "probe_interval"),
    ] {
        same(&format!("RouterBuilder::{method}"), &field(&printed, name));
    }
    // These two are there twice: as they were set, and as they count.
    let routing = printed.split_once("routing:").expect("the routing").1;
    for method in ["fallback_wait", "replay_wait"] {
        same(&format!("RouterBuilder::{method}"), &field(routing, method));
    }
    let discovery = printed.split_once("discovery:").expect("the names").1;
    same("RouterBuilder::resolve_interval", &field(discovery, "interval"));
    let printed = format!("{:?}", ReplicaOptions::new());
    same("ReplicaOptions::weight", &field(&printed, "weight"));
    same("ReplicaOptions::zone", &field(&printed, "zone"));

    let router = Router::builder().primary(url).probe_interval(None).build().unwrap();
    same("BeginTransaction::max_attempts", &field(&format!("{:?}", router.transaction()), "attempts"));
    let builder = PostgresEventStore::builder(&router);
    let printed = format!("{builder:?}");
    for method in
        ["batch_appends", "batch_events", "batch_bytes", "waiting_appends", "waiting_bytes", "notify_interval"]
    {
        same(&format!("PostgresEventStoreBuilder::{method}"), &field(&printed, method));
    }
    let store = builder.build();
    let name = format!("{}.{}", store.name().schema(), store.name().log());
    same("PostgresEventStoreBuilder::name", &name);

    let printed = format!("{:?}", CommandExecutor::new(MemoryEventStore::new()));
    for (method, name) in [
        ("max_attempts", "max_attempts"),
        ("base_delay", "base_delay"),
        ("max_delay", "max_delay"),
        ("timeout", "limit"),
        ("call_timeout", "call_timeout"),
        ("first_read", "first_read"),
    ] {
        same(&format!("CommandExecutor::{method}"), &field(&printed, name));
    }
    for (method, what) in [("commands", "commands"), ("reads", "reads of models")] {
        let limit = printed.split_once(&format!("what: [\"{what}\"")).expect("the limit").1;
        same(&format!("CommandExecutor::max_concurrent_{method}"), &field(limit, "most"));
    }

    let any = Filter::any_event();
    for (what, printed) in [
        ("SubscriptionBuilder", format!("{:?}", store.subscribe(&any))),
        ("ConsumerBuilder", format!("{:?}", store.consumer("a", &any))),
    ] {
        for (method, name) in [("start_at", "start"), ("consistency", "consistency")] {
            same(&format!("{what}::{method}"), &field(&printed, name));
        }
        // The store has these, too, for what is appended.
        let of_its_own = &printed[printed.rfind(" batch_events:").expect("the batches")..];
        for method in ["batch_events", "batch_bytes"] {
            same(&format!("{what}::{method}"), &field(of_its_own, method));
        }
    }
    same("ConsumerBuilder::takeover", &field(&format!("{:?}", store.consumer("a", &any)), "takeover"));
    let printed = |value: &dyn Debug| format!("{value:?}");
    same("ReadModelsBuilder::batch_events", &printed(&ReadModelsBuilder::DEFAULT_BATCH_EVENTS));
    same("ReadModelsBuilder::batch_bytes", &printed(&ReadModelsBuilder::DEFAULT_BATCH_BYTES));
    same("Import::chunk_events", &printed(&Import::DEFAULT_CHUNK_EVENTS));
    same("Import::chunk_bytes", &printed(&Import::DEFAULT_CHUNK_BYTES));
    same("Import::lock_time", &printed(&Import::DEFAULT_LOCK_TIME));
    let fetch = printed(&store.fetch(&any, Start::Beginning));
    same("Fetch::limit", &field(fetch.split_once("start: Beginning").expect("its own part").1, "limit"));
    same("Migrate::timeout", &printed(&Migrate::DEFAULT_TIMEOUT));
    same("CreateIndex::timeout", &printed(&CreateIndex::DEFAULT_TIMEOUT));
    same("DropIndex::timeout", &printed(&DropIndex::DEFAULT_TIMEOUT));
    same("WaitUntilHandled::timeout", &printed(&WaitUntilHandled::DEFAULT_TIMEOUT));
    let project = MemoryEventStore::new();
    let project = printed(&project.project(&SnapshotKey::new("a", 1, &any), (), |(), _| Ok(())));
    same("Project::save_every", &field(&project, "save_every"));
    same("Project::save_timeout", &field(&project, "save_timeout"));

    // Whatever looks like a value is one, and was looked at.
    let values = table.values().filter(|value| value.starts_with(|first: char| first.is_ascii_digit()));
    let timeless = values.filter(|value| !value.contains(' ')).count();
    assert!(compared >= timeless, "{timeless} values, and {compared} were compared");
}

/// A method that says "Defaults to …" is in the table, so that a new setting is not forgotten.
#[test]
fn every_setting_with_a_default_is_in_the_table() {
    let table = settings();
    let (mut found, mut missing) = (0, Vec::new());
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // What tests start is described where it is.
                if path.file_name().is_some_and(|name| name != "testing") {
                    folders.push(path);
                }
                continue;
            }
            let source = fs::read_to_string(&path).unwrap();
            let (mut of, mut has_default) = ("", false);
            for line in source.lines().map(str::trim) {
                if let Some(rest) = line.strip_prefix("impl").filter(|_| line.ends_with('{')) {
                    // Behind the parameters, if there are any.
                    let rest = rest.strip_prefix('<').map_or(rest, |rest| rest.split_once("> ").map_or("", |it| it.1));
                    of = rest.trim().split(['<', ' ']).next().unwrap_or_default();
                } else if line.starts_with("///") {
                    has_default |= line.contains("Defaults to") || line.contains("None by default");
                } else if !line.starts_with("#[") {
                    let name = line.strip_prefix("pub fn ").and_then(|rest| rest.split(['(', '<']).next());
                    if let Some(name) = name.filter(|_| has_default) {
                        found += 1;
                        // Every call has these two, and the page says so once.
                        let setting = format!("{of}::{name}");
                        if !table.contains_key(&setting) && !["timeout", "consistency"].contains(&name) {
                            missing.push(format!("{setting} ({})", path.display()));
                        }
                    }
                    has_default = false;
                }
            }
        }
    }
    assert!(missing.is_empty(), "docs/limits.md does not have {missing:?}");
    assert!(found > 50, "{found} settings");
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let of = |path: PathBuf| match path.is_dir() {
        true => rust_files(&path),
        false if path.extension().is_some_and(|extension| extension == "rs") => vec![path],
        false => Vec::new(),
    };
    entries.flat_map(of).collect()
}

/// Where a module says what its files hold, it leaves none out.
#[test]
fn the_tables_of_files_have_every_module() {
    let mut tables = 0;
    for path in rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let text = fs::read_to_string(&path).unwrap();
        if !text.contains("//! | file | what it holds |") {
            continue;
        }
        tables += 1;
        let table: String = text.lines().filter(|line| line.starts_with("//! |")).collect();
        let modules = text.lines().filter_map(|line| line.split_once("mod ")?.1.strip_suffix(';'));
        let missing: Vec<&str> =
            modules.filter(|name| *name != "tests" && !table.contains(&format!("`{name}`"))).collect();
        assert!(missing.is_empty(), "the table of {} lacks {missing:?}", path.display());
    }
    assert!(tables > 10, "{tables}");
}

/// A path is one from the root, or from `src`.
#[test]
fn the_files_that_the_manual_names_are_there() {
    // A new project's.
    const ELSEWHERE: [&str; 1] = ["src/main.rs"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for (file, text) in pages() {
        // Every other piece between backticks is code. Blocks have three at each end, so they leave the order as it is.
        let named = text.split('`').skip(1).step_by(2).filter(|code| {
            let is_file = [".rs", ".sql", ".md"].iter().any(|end| code.ends_with(end));
            (is_file || code.starts_with("src/")) && code.contains('/') && !code.contains([' ', '\n', '*'])
        });
        for path in named.filter(|path| !ELSEWHERE.contains(path)) {
            count += 1;
            let is_there = [root.to_owned(), root.join("src")].iter().any(|folder| folder.join(path).exists());
            assert!(is_there, "{file} names {path}, which is not there");
        }
    }
    assert!(count > 10, "{count}");
}

#[test]
fn the_first_program_of_the_manual_is_the_example() {
    let example = page("examples/getting_started.rs");
    let (_, program) = example.split_once("\n\n").expect("a comment at the top");
    let program = program.trim().replace("pub(crate) ", "");
    assert!(page("docs/getting-started.md").contains(&program), "the chapter has another program");
}

/// Links between chapters are `[text][name]` or `[name]`, with `[name]: name.md` at the end, and in rustdoc's list.
#[test]
fn links_between_the_chapters_lead_to_a_chapter() {
    let in_rustdoc = page("src/_documentation/links.md");
    let modules = page("src/_documentation/mod.rs");
    let mut count = 0;
    for (file, text) in pages() {
        let defined: Vec<(&str, &str)> = text
            .lines()
            .filter_map(|line| line.strip_prefix('[')?.split_once("]: "))
            .filter(|(_, target)| target.ends_with(".md"))
            .collect();
        for (name, target) in &defined {
            assert_eq!(format!("{name}.md"), *target, "{file}");
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(target);
            assert!(path.exists(), "{file} links to {target}, which is not there");
            let module = name.replace('-', "_");
            let link = format!("[{name}]: crate::_documentation::{module}\n");
            assert!(in_rustdoc.contains(&link), "{file} links to {name}, which rustdoc does not know");
            let used = text.contains(&format!("][{name}]")) || text.matches(&format!("[{name}]")).count() > 1;
            assert!(used, "{file} defines {name} for nothing");
            count += 1;
        }
        for used in text.split("][").skip(1).filter_map(|rest| rest.split_once(']')).map(|(name, _)| name) {
            let is_link = used.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-');
            assert!(!is_link || defined.iter().any(|(name, _)| *name == used), "{file} does not define [{used}]");
        }
        assert!(modules.contains(&format!("docs/{file}")), "rustdoc does not show {file}");
    }
    assert!(count > 40, "{count} links");
}
