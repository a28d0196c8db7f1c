use std::time::Duration;

use super::*;
use crate::{
    ErrorKind, Role, Router,
    router::config::{source::Source, url},
};

const SECRET: &str = "hunter2";

/// For each setting a value that is not its default, and one that is invalid.
const SAMPLES: [(&str, &str, &str); 24] = [
    ("max_connections", "7", "0"),
    ("min_connections", "2", "few"),
    ("max_lifetime", "none", "0s"),
    ("idle_timeout", "60s", "-1s"),
    ("connect_timeout", "1500ms", "0s"),
    ("acquire_timeout", "7s", "7"),
    ("waiting_calls", "0", "-1"),
    ("call_timeout", "120s", "2 weeks"),
    ("statement_cache_capacity", "0", "-1"),
    ("transaction_pooling", "true", "yes"),
    ("require_replicas", "true", "1"),
    ("zone", "eu-1a", ""),
    ("zones", "a,b", "a"),
    ("weights", "1,1000", "1,1001"),
    ("fallback", "never", "Never"),
    ("fallback_concurrency", "3", "0"),
    ("fallback_rate", "100", "0"),
    ("replay_wait", "0s", "soon"),
    ("fallback_wait", "20ms", "20"),
    ("max_replica_lag", "3600s", "99999999999999999h"),
    ("slow_start", "0s", "-1s"),
    ("max_ejected_percent", "0", "101"),
    ("probe_interval", "none", "0ms"),
    ("resolve_interval", "1s", "0s"),
];

fn get(builder: &RouterBuilder, name: &str) -> String {
    (SETTINGS.iter().find(|setting| setting.name == name).unwrap().get)(builder)
}

fn refused<T>(outcome: Result<T>) -> String {
    let Err(error) = outcome else { panic!("it was accepted") };
    assert_eq!(error.kind(), ErrorKind::Configuration);
    let report = format!("{error} {error:?} {}", error.report());
    assert!(!report.contains(SECRET), "{report}");
    error.report()
}

fn from_vars(vars: &[(&str, &str)]) -> Result<RouterBuilder> {
    RouterBuilder::from_vars(vars.iter().copied())
}

/// The names of the nodes, in order.
fn names(builder: RouterBuilder) -> Vec<String> {
    let router = builder.build().unwrap();
    router.status().nodes.iter().map(|node| node.name.to_string()).collect()
}

/// The driver's settings of each node.
fn configs(builder: RouterBuilder) -> Vec<tokio_postgres::Config> {
    let RouterBuilder { sources, defaults, .. } = builder;
    let config = |listed: crate::router::config::builder::Listed| match listed.source {
        Source::Url(text) => url::parse(&text, "it", Duration::from_secs(2), &defaults).unwrap().config,
        Source::Pool(_) => panic!("no URL"),
    };
    sources.into_iter().map(config).collect()
}

#[test]
fn the_table_is_what_the_code_says() {
    let rows: Vec<Vec<&str>> = include_str!("settings.md")
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert_eq!(rows.len(), SETTINGS.len());
    let defaults = RouterBuilder::default();
    for (row, setting) in rows.iter().zip(&SETTINGS) {
        let [name, default, values, why, small, _] = row[..] else { panic!("{row:?}") };
        assert_eq!(name, format!("`{}`", setting.name), "in this order");
        assert_eq!(default, format!("`{}`", (setting.get)(&defaults)), "{name}");
        assert_eq!(values, setting.values, "{name}");
        assert!(!why.is_empty() && !small.is_empty(), "{name}");
    }
}

/// A new method of the builder needs a setting here, or a reason why not.
#[test]
fn each_method_of_the_builder_has_a_row() {
    let named_otherwise = ["primary", "replica", "replica_with", "replicas", "primary_pool", "replica_pool", "tls"];
    let in_code_only = ["replicas_by_name", "replicas_by_name_with", "replica_changes", "resolver"];
    // Its methods follow those of the options of one replica.
    let settings = include_str!("../settings.rs").split("impl RouterBuilder").skip(1).collect::<String>();
    let texts = [
        include_str!("../builder.rs"),
        include_str!("../../pool/upkeep.rs"),
        include_str!("../../nodes/discovery/settings.rs"),
    ];
    let text = format!("{}{settings}", texts.concat());
    let methods = text.split("pub fn ").skip(1).filter_map(|method| {
        let (name, rest) = method.split_once(['(', '<'])?;
        let signature = rest.split('{').next()?;
        (signature.contains("self") && signature.contains("-> Self")).then_some(name)
    });
    let methods: Vec<&str> =
        methods.filter(|name| !named_otherwise.contains(name) && !in_code_only.contains(name)).collect();
    assert!(methods.len() > 20, "{methods:?}");
    for method in methods {
        assert!(SETTINGS.iter().any(|setting| setting.name == method), "{method} is in no row");
    }
}

#[test]
fn each_setting_is_read_from_a_url_and_from_the_environment() {
    let list = format!("postgres://app:{SECRET}@db1,db2/shop?sslmode=disable");
    for (setting, (name, value, wrong)) in SETTINGS.iter().zip(SAMPLES) {
        assert_eq!(setting.name, name);
        let plain = get(&RouterBuilder::from_url(&list).unwrap(), name);
        assert_ne!(plain, value, "the sample is the default");
        let by_url = RouterBuilder::from_url(format!("{list}&mainstem.{name}={value}")).unwrap();
        assert_eq!(get(&by_url, name), value);
        let variable = setting.variable();
        let by_variable = from_vars(&[("MAINSTEM_URL", &list), (&variable, &format!(" {value} "))]).unwrap();
        assert_eq!(get(&by_variable, name), value);
        // The variable takes precedence over the URL, and code over both.
        let with = format!("{list}&mainstem.{name}={value}");
        let default = if name == "zone" { "other" } else { &plain };
        if !["zones", "fallback_concurrency", "fallback_rate"].contains(&name) {
            assert_eq!(get(&from_vars(&[("MAINSTEM_URL", &with), (&variable, default)]).unwrap(), name), default);
        }
        let said = refused(RouterBuilder::from_url(format!("{list}&mainstem.{name}={wrong}")));
        assert!(said.contains(&format!("mainstem.{name} of the URL")) && said.contains(setting.values), "{said}");
        if !wrong.is_empty() {
            let said = refused(from_vars(&[("MAINSTEM_URL", &list), (&variable, wrong)]));
            assert!(said.contains(&variable) && said.contains(setting.values), "{said}");
        }
        // A misplaced secret.
        if name != "zone" {
            refused(from_vars(&[("MAINSTEM_URL", &list), (&variable, SECRET)]));
        }
    }
    let builder = RouterBuilder::from_url(format!("{list}&mainstem.max_connections=20")).unwrap().max_connections(3);
    assert_eq!(get(&builder, "max_connections"), "3");
}

#[test]
fn a_name_that_is_unknown_is_refused_with_the_one_that_was_meant() {
    let cases = [
        ("mainstem.max_conections", "did you mean mainstem.max_connections?"),
        ("mainstem_call_timeout", "did you mean mainstem.call_timeout?"),
        ("Mainstem.probe-interval", "did you mean mainstem.probe_interval?"),
        ("mainstem.", "there are mainstem.max_connections, "),
        ("mainstem.something_else_altogether", "there are mainstem.max_connections, "),
    ];
    for (name, hint) in cases {
        let said = refused(RouterBuilder::from_url(format!("postgres://app:{SECRET}@h/d?{name}=1")));
        assert!(said.contains(name) && said.contains(hint), "{said}");
    }
    let cases = [
        ("MAINSTEM_MAX_CONNECTION", "did you mean MAINSTEM_MAX_CONNECTIONS?"),
        ("MAINSTEM_URLS", "did you mean MAINSTEM_URL?"),
        ("MAINSTEM_CALLTIMEOUT", "did you mean MAINSTEM_CALL_TIMEOUT?"),
    ];
    for (name, hint) in cases {
        let said = refused(from_vars(&[("MAINSTEM_URL", "postgres://h/d"), (name, SECRET)]));
        assert!(said.contains(name) && said.contains(hint), "{said}");
    }
    let said = refused(RouterBuilder::from_url(format!("postgres://h/d?mainstem%20{SECRET}=1")));
    assert!(said.contains("strange name"), "{said}");
}

#[tokio::test]
async fn a_url_list_names_its_nodes_and_nobodys_role() {
    let list =
        format!("postgresql://app:{SECRET}@db1,db2:5433,[::1]:6000,%2Ftmp/shop?sslmode=disable&connect_timeout=3");
    let builder = RouterBuilder::from_url(&list).unwrap();
    assert!(!format!("{builder:?}").contains(SECRET));
    for config in configs(RouterBuilder::from_url(&list).unwrap()) {
        assert_eq!((config.get_user(), config.get_dbname()), (Some("app"), Some("shop")));
        assert_eq!((config.get_password(), config.get_hosts().len()), (Some(SECRET.as_bytes()), 1));
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(3)));
    }
    let router = builder.build().unwrap();
    let nodes = router.status().nodes;
    let found: Vec<&str> = nodes.iter().map(|node| &*node.name).collect();
    assert_eq!(found, ["db1:5432", "db2:5433", "::1:6000", "/tmp:5432"]);
    assert!(nodes.iter().all(|node| node.role == Role::Replica), "nothing is written before somebody tells");
    for list in
        ["postgres://localhost", "postgres://app@localhost", "postgres://localhost?user=app", "postgres://localhost/"]
    {
        assert_eq!(names(RouterBuilder::from_url(list).unwrap()), ["localhost:5432"], "{list}");
    }
}

#[tokio::test]
async fn invalid_url_lists_are_refused() {
    let cases = [
        ("mysql://app:hunter2@a,b/d", "postgres://"),
        ("host=a,b password=hunter2", "postgres://"),
        ("postgres://app:hun@ter2@a,b/d", "%40"),
        ("postgres://app:hunter2@a,,b/d", "a comma too many"),
        ("postgres://app:hunter2@/d", "names no host"),
        ("postgres://app:hunter2@a/d?target_session_attrs=read-write", "leave it out"),
        ("postgres://app:hunter2@a/d?mainstem.zone=x&mainstem.zone=y", "twice"),
    ];
    for (list, part) in cases {
        let said = refused(RouterBuilder::from_url(list));
        assert!(said.contains(part), "{said}");
    }
    let list = || RouterBuilder::from_url(format!("postgres://app:{SECRET}@a,b/d?sslmode=disable")).unwrap();
    let wrong = [
        (list().primary("postgres://c/d"), "put all nodes into the list"),
        (list().probe_interval(None), "have to be asked"),
        (
            RouterBuilder::from_url(format!("postgres://app:{SECRET}@a,b:x/d?sslmode=disable")).unwrap(),
            "node 2 of the list has an invalid port",
        ),
        (RouterBuilder::from_url("postgres://a,a/d?sslmode=disable").unwrap(), "list each once"),
        (Router::builder().primary(format!("postgres://app:{SECRET}@a/d?mainstem.zone=x")), "RouterBuilder::from_url"),
        (Router::builder().primary(format!("postgres://app:{SECRET}@a,b/d")), "RouterBuilder::from_url"),
    ];
    for (builder, part) in wrong {
        let said = refused(builder.build());
        assert!(said.contains(part), "{said}");
    }
}

#[tokio::test]
async fn the_environment_names_nodes_in_one_of_three_ways() {
    let cases = [
        (&[("MAINSTEM_URL", "postgres://a,b:1/d?sslmode=disable")][..], vec!["a:5432", "b:1"]),
        (
            &[
                ("MAINSTEM_REPLICA_URLS", "postgres://b/d?sslmode=disable, postgres://c/d?sslmode=disable"),
                ("MAINSTEM_PRIMARY_URL", "postgres://a/d?sslmode=disable"),
            ],
            vec!["a:5432", "b:5432", "c:5432"],
        ),
        (&[("PGHOST", "a,b"), ("PGPORT", "7"), ("PGSSLMODE", "disable")], vec!["a:7", "b:7"]),
        (&[("PGHOST", "/tmp,::1"), ("PGPORT", "7,8"), ("PGSSLMODE", "disable")], vec!["/tmp:7", "::1:8"]),
        // The URL takes precedence, and an empty variable counts as not set.
        (
            &[
                ("PGHOST", "x"),
                ("MAINSTEM_URL", "postgres://a/d"),
                ("MAINSTEM_PRIMARY_URL", " "),
                ("PGSSLMODE", "disable"),
            ],
            vec!["a:5432"],
        ),
    ];
    for (vars, expected) in cases {
        assert_eq!(names(from_vars(vars).unwrap()), expected, "{vars:?}");
    }
    let list = ("MAINSTEM_URL", "postgres://app:hunter2@a/d");
    let wrong = [
        (&[][..], "set MAINSTEM_URL"),
        (&[list, ("MAINSTEM_PRIMARY_URL", "postgres://a")], "one or the other"),
        (&[list, ("MAINSTEM_REPLICA_URLS", "postgres://a")], "one or the other"),
        (&[("MAINSTEM_REPLICA_URLS", "postgres://a")], "MAINSTEM_PRIMARY_URL is not"),
        (&[("MAINSTEM_URL", "hunter2")], "the variable MAINSTEM_URL: "),
        (&[("PGHOST", "a,b"), ("PGPORT", "1,2,3")], "PGPORT has 3 ports for 2 hosts"),
        (&[("PGHOST", "a"), ("PGPORT", "hunter2")], "PGPORT"),
        (&[("PGHOST", "a,"), ("PGPORT", "1")], "PGHOST"),
        (&[list, ("PGCONNECT_TIMEOUT", "2s")], "PGCONNECT_TIMEOUT"),
        (&[list, ("PGSSLMODE", "hunter2")], "verify-full"),
    ];
    for (vars, part) in wrong {
        let said = refused(from_vars(vars));
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn variables_of_libpq_say_what_the_urls_leave_out() {
    let vars = [
        ("MAINSTEM_URL", "postgres://a,own:secret@b/mine?application_name=me&connect_timeout=9"),
        ("PGUSER", "app"),
        ("PGPASSWORD", " blank "),
        ("PGDATABASE", "shop"),
        ("PGAPPNAME", "web"),
        ("PGOPTIONS", "-c work_mem=1MB"),
        ("PGCONNECT_TIMEOUT", "3"),
        ("PGSSLROOTCERT", "/ca.pem"),
    ];
    let own =
        ("MAINSTEM_URL", "postgres://own:secret@a/mine?application_name=me&connect_timeout=9&options=-c%20jit%3Don");
    let mut with_own = vars;
    with_own[0] = own;
    let mut without = vars;
    without[0] = ("MAINSTEM_URL", "postgres://a,b");
    for config in configs(from_vars(&without).unwrap()) {
        assert_eq!((config.get_user(), config.get_dbname()), (Some("app"), Some("shop")));
        assert_eq!(config.get_password(), Some(" blank ".as_bytes()));
        assert_eq!((config.get_application_name(), config.get_options()), (Some("web"), Some("-c work_mem=1MB")));
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(3)));
    }
    for config in configs(from_vars(&with_own).unwrap()) {
        assert_eq!((config.get_user(), config.get_dbname()), (Some("own"), Some("mine")));
        assert_eq!(config.get_password(), Some("secret".as_bytes()));
        assert_eq!((config.get_application_name(), config.get_options()), (Some("me"), Some("-c jit=on")));
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(9)));
    }
    // Their passwords are in no output either.
    let builder = from_vars(&[without[0], ("PGPASSWORD", SECRET)]).unwrap();
    assert!(!format!("{builder:?}").contains(SECRET));
}

#[tokio::test]
async fn a_connect_timeout_of_a_url_holds_for_all_that_waits_for_a_connection() {
    let second = Duration::from_secs(1);
    let limit = |builder: RouterBuilder| builder.build().unwrap().inner.limits.connect_timeout;
    let url = |seconds: u64| format!("postgres://h/d?connect_timeout={seconds}&sslmode=disable");
    let with = |seconds| Router::builder().primary(url(1)).replica(url(seconds).replace("//h", "//i"));
    assert_eq!(limit(with(9)), 9 * second);
    assert_eq!(limit(with(1)), 2 * second, "for one address of several");
    assert_eq!(limit(with(9).connect_timeout(3 * second)), 3 * second, "the builder says it");
    let vars = [("MAINSTEM_URL", "postgres://h/d?sslmode=disable"), ("PGCONNECT_TIMEOUT", "9")];
    assert_eq!(limit(from_vars(&vars).unwrap()), 9 * second);
    let set = [&vars[..], &[("MAINSTEM_CONNECT_TIMEOUT", "3s")]].concat();
    assert_eq!(limit(from_vars(&set).unwrap()), 3 * second);
}

/// A requirement for encryption is not overruled by what happens to be in the environment.
#[cfg(feature = "rustls")]
#[tokio::test]
async fn tls_settings_of_the_builder_override_the_environment() {
    use crate::{TlsMode, TlsOptions};

    let vars = [("MAINSTEM_URL", "postgres://far.example/d"), ("PGSSLMODE", "disable"), ("PGSSLROOTCERT", "/vars.pem")];
    let build = |tls: TlsOptions| from_vars(&vars).unwrap().tls(tls).build();
    // No certificate is read if nothing is encrypted.
    build(TlsOptions::new()).unwrap();
    let said = refused(build(TlsOptions::new().mode(TlsMode::VerifyFull)));
    assert!(said.contains("/vars.pem"), "{said}");
    let said = refused(build(TlsOptions::new().mode(TlsMode::VerifyFull).root_certificates("/own.pem")));
    assert!(said.contains("/own.pem"), "{said}");
    // A URL is about its own node, and takes precedence over everything else.
    let own = [("MAINSTEM_URL", "postgres://far.example/d?sslmode=disable"), vars[1]];
    from_vars(&own).unwrap().tls(TlsOptions::new().mode(TlsMode::VerifyFull)).build().unwrap();
}

#[tokio::test]
async fn environment_settings_other_than_nodes_apply_to_given_nodes() {
    let url = format!("postgres://app@a,b/d?mainstem.call_timeout=1s&mainstem.max_connections=7&password={SECRET}");
    let list = || RouterBuilder::from_url(&url).unwrap();
    // Variables that name nodes are ignored, whether or not they make sense.
    let vars = [
        ("MAINSTEM_URL", "nonsense"),
        ("MAINSTEM_PRIMARY_URL", "postgres://x/d"),
        ("MAINSTEM_REPLICA_URLS", "postgres://y/d"),
        ("PGHOST", "z"),
        ("PGPORT", "z"),
        ("PGUSER", "other"),
        ("PGDATABASE", "other"),
        ("PGAPPNAME", "tool"),
        ("PGSSLMODE", "disable"),
        ("MAINSTEM_CALL_TIMEOUT", "3s"),
    ];
    let builder = list().with_vars(vars).unwrap();
    assert_eq!((&*get(&builder, "call_timeout"), &*get(&builder, "max_connections")), ("3s", "7"));
    assert_eq!(names(builder), ["a:5432", "b:5432"]);
    for config in configs(list().with_vars(vars).unwrap()) {
        assert_eq!((config.get_user(), config.get_dbname()), (Some("app"), Some("d")));
        assert_eq!(config.get_application_name(), Some("tool"));
    }
    let by_role = || Router::builder().primary("postgres://a").replica("postgres://b/own");
    let databases = configs(by_role().with_vars(vars).unwrap());
    assert_eq!([0, 1].map(|node: usize| databases[node].get_dbname()), [Some("other"), Some("own")]);
    for (name, value, part) in [
        ("MAINSTEM_CALL_TIMEOUT", SECRET, "MAINSTEM_CALL_TIMEOUT has another value"),
        ("MAINSTEM_CAL_TIMEOUT", "1s", "did you mean MAINSTEM_CALL_TIMEOUT?"),
        ("PGCONNECT_TIMEOUT", SECRET, "PGCONNECT_TIMEOUT"),
    ] {
        let said = refused(by_role().with_vars([(name, value)]));
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn variables_of_others_are_left_alone() {
    let list = ("MAINSTEM_URL", "postgres://a/d");
    let others = [
        "MAINSTEM_SERVICE_HOST",
        "MAINSTEM_SERVICE_PORT",
        "MAINSTEM_PORT",
        "MAINSTEM_PORT_5432_TCP_ADDR",
        "MAINSTEM_PG_BIN",
        "PGTZ",
        "PATH",
    ];
    for name in others {
        assert!(from_vars(&[list, (name, SECRET)]).is_ok(), "{name}");
    }
}
