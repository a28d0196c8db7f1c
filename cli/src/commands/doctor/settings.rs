//! Settings that will cause problems.

use mainstem::Role;

use super::{
    facts::{NodeFacts, Slot},
    finding::{
        Finding,
        Severity::{self, Fault, Note, Warning},
    },
};

/// The nodes on which a setting matters.
#[derive(Clone, Copy, PartialEq)]
enum On {
    Any,
    Primary,
    Replica,
}

/// A setting, when it causes problems, and what to do.
struct Rule {
    on: On,
    setting: &'static str,
    hurts: fn(&NodeFacts, &str) -> bool,
    severity: Severity,
    why: &'static str,
    todo: &'static str,
}

fn is_off(_: &NodeFacts, value: &str) -> bool {
    value == "off"
}

fn is_on(_: &NodeFacts, value: &str) -> bool {
    value == "on"
}

fn is_zero(_: &NodeFacts, value: &str) -> bool {
    value == "0"
}

const RULES: &[Rule] = &[
    Rule {
        on: On::Any,
        setting: "fsync",
        hurts: is_off,
        severity: Fault,
        why: "a crash of the machine destroys the database, acknowledged events included",
        todo: "fsync = on; rebuild the nodes that have crashed without it",
    },
    Rule {
        on: On::Any,
        setting: "full_page_writes",
        hurts: is_off,
        severity: Fault,
        why: "a crash during a write leaves a torn page, which nothing repairs",
        todo: "full_page_writes = on",
    },
    Rule {
        on: On::Primary,
        setting: "synchronous_commit",
        hurts: is_off,
        severity: Warning,
        why: "a crash of the primary loses acknowledged appends, and their positions are used again",
        todo: "synchronous_commit = on for the role that appends",
    },
    Rule {
        on: On::Primary,
        setting: "synchronous_commit",
        hurts: |node, value| value == "local" && !node.setting("synchronous_standby_names").is_empty(),
        severity: Warning,
        why: "there are synchronous standbys, but appends do not wait for them: a failover loses acknowledged events",
        todo: "synchronous_commit = on for the role that appends",
    },
    Rule {
        on: On::Primary,
        setting: "synchronous_standby_names",
        hurts: |_, value| value.is_empty(),
        severity: Note,
        why: "an append is acknowledged when it is on the primary's disk only: a failover may lose the last ones",
        todo: "if you cannot lose any, name two or more standbys: synchronous_standby_names = 'ANY 1 (a, b)'",
    },
    Rule {
        on: On::Primary,
        setting: "synchronous_standby_names",
        hurts: |node, value| waits(node, value) && node.synchronous_standbys < standbys_of(value),
        severity: Fault,
        why: "fewer synchronous standbys are connected than a commit waits for: every append waits until it times out, and then has an \
              unknown outcome",
        todo: "start standbys with these names, or set others. To write without any, knowing that a failover may then lose events: ALTER \
               SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf()",
    },
    Rule {
        on: On::Primary,
        setting: "synchronous_standby_names",
        hurts: |node, value| waits(node, value) && node.synchronous_standbys == standbys_of(value),
        severity: Note,
        why: "as many synchronous standbys are connected as a commit waits for: if one is lost, every append waits for it",
        todo: "name and run one more than a commit waits for: synchronous_standby_names = 'ANY 1 (a, b)'",
    },
    Rule {
        on: On::Primary,
        setting: "wal_level",
        hurts: |_, value| value == "minimal",
        severity: Fault,
        why: "replicas cannot follow, and WAL cannot be archived",
        todo: "wal_level = replica, and restart",
    },
    Rule {
        on: On::Primary,
        setting: "default_transaction_isolation",
        hurts: |_, value| value != "read committed",
        severity: Fault,
        why: "appends require READ COMMITTED, and are refused at any other level",
        todo: "ALTER ROLE … SET default_transaction_isolation = 'read committed' for the role that appends",
    },
    Rule {
        on: On::Primary,
        setting: "default_transaction_read_only",
        hurts: is_on,
        severity: Fault,
        why: "appends are refused",
        todo: "reset default_transaction_read_only for the role, the database or the server",
    },
    Rule {
        on: On::Primary,
        setting: "wal_sender_timeout",
        hurts: is_zero,
        severity: Warning,
        why: "a replica that disappears silently still counts as connected; a synchronous one then blocks all appends",
        todo: "wal_sender_timeout = '60s', the default, or less",
    },
    Rule {
        on: On::Replica,
        setting: "wal_receiver_timeout",
        hurts: is_zero,
        severity: Warning,
        why: "if the primary disappears silently, this replica waits for it forever, and becomes stale",
        todo: "wal_receiver_timeout = '60s', the default, or less",
    },
    Rule {
        on: On::Replica,
        setting: "max_standby_streaming_delay",
        hurts: |_, value| value == "-1",
        severity: Warning,
        why: "one long read stops replay until it ends: meanwhile all other reads are stale",
        todo: "max_standby_streaming_delay = '30s', the default, or less",
    },
    Rule {
        on: On::Replica,
        setting: "max_standby_streaming_delay",
        hurts: |_, value| value.parse().is_ok_and(|delay: i64| (0..1000).contains(&delay)),
        severity: Warning,
        why: "replay cancels conflicting reads almost at once; they are retried elsewhere, which burdens the primary",
        todo: "max_standby_streaming_delay = '5s' or more, or hot_standby_feedback = on",
    },
    Rule {
        on: On::Replica,
        setting: "hot_standby_feedback",
        hurts: is_off,
        severity: Note,
        why: "vacuum on the primary may remove rows that a read here still sees, which cancels the read. The log only grows, \
              but read models do not",
        todo: "if reads are cancelled (pg_stat_database_conflicts), hot_standby_feedback = on; a long read then keeps dead rows \
               on the primary",
    },
    Rule {
        on: On::Any,
        setting: "tcp_keepalives_idle",
        hurts: |_, value| value.parse().is_ok_and(|seconds: i64| seconds > 600),
        severity: Note,
        why: "the server notices only after this many seconds that a client is gone, and keeps its session and locks until then",
        todo: "tcp_keepalives_idle = 60, tcp_keepalives_interval = 10, tcp_keepalives_count = 3",
    },
    Rule {
        on: On::Any,
        setting: "jit",
        hurts: is_on,
        severity: Warning,
        why: "compiling takes tens of milliseconds when the planner overestimates a search",
        todo: "remove jit from the URL's options: the router turns it off for its connections. Behind a pooler it cannot: ALTER ROLE … SET \
               jit = off",
    },
    Rule {
        on: On::Primary,
        setting: "idle_in_transaction_session_timeout",
        hurts: is_zero,
        severity: Note,
        why: "a client that forgets its transaction keeps its locks, and the dead rows of all tables, forever",
        todo: "idle_in_transaction_session_timeout = '1min' for the roles of applications",
    },
    Rule {
        on: On::Primary,
        setting: "autovacuum",
        hurts: is_off,
        severity: Warning,
        why: "statistics become stale, so searches are planned badly, and transaction ids run out",
        todo: "autovacuum = on",
    },
    Rule {
        on: On::Primary,
        setting: "max_slot_wal_keep_size",
        hurts: |node, value| value == "-1" && !node.slots.is_empty(),
        severity: Note,
        why: "if a replica is stopped for good, its slot keeps WAL until the primary's disk is full",
        todo: "set max_slot_wal_keep_size to what the disk can spare",
    },
];

/// The limits that the user sets.
pub(crate) struct Limits {
    /// The connections of all the user's instances to a node.
    pub(crate) pool: u32,
    /// A transaction that is idle for this many seconds was forgotten.
    pub(crate) max_idle: i64,
}

pub(crate) fn findings(node: &str, role: Role, is_primary: bool, facts: &NodeFacts, limits: &Limits) -> Vec<Finding> {
    let counts = |on: On| match on {
        On::Any => true,
        On::Primary => is_primary,
        On::Replica => role == Role::Replica && !is_primary,
    };
    let hurt = RULES.iter().filter(|rule| counts(rule.on) && (rule.hurts)(facts, facts.setting(rule.setting)));
    let mut findings: Vec<_> = hurt
        .map(|rule| {
            let seen = match facts.setting(rule.setting) {
                "" => format!("{} is empty", rule.setting),
                value => format!("{} is {value}", rule.setting),
            };
            Finding::new(rule.severity, rule.setting, seen, rule.why, rule.todo)
        })
        .collect();
    // What a standby has of slots is kept for a failover, by the server or by what manages it.
    if is_primary {
        findings.extend(facts.slots.iter().filter_map(of_slot));
        findings.extend(wraparound(facts));
    }
    findings.extend(connections(facts, limits.pool));
    if let Some(seconds) = facts.idle_in_transaction_seconds.filter(|seconds| *seconds >= limits.max_idle) {
        findings.push(Finding::new(
            Warning,
            "idle_in_transaction",
            format!("a session has been idle in a transaction for {seconds} s"),
            "it keeps its locks and dead rows, and index builds wait for it",
            "find it in pg_stat_activity, end it with pg_terminate_backend, and fix the program",
        ));
    }
    if facts.encoding != "UTF8" {
        findings.push(Finding::new(
            Fault,
            "encoding",
            format!("the database's encoding is {}", facts.encoding),
            "the JSON and text of events require UTF8",
            "create a database with ENCODING 'UTF8'",
        ));
    }
    findings.into_iter().map(|finding| finding.at(node)).collect()
}

fn of_slot(slot: &Slot) -> Option<Finding> {
    let Slot { name, is_logical, is_active, wal_status, held_bytes } = slot;
    let drop = format!("SELECT pg_drop_replication_slot('{name}')");
    match wal_status.as_deref() {
        Some("lost") => Some(Finding::new(
            Fault,
            "slot_lost",
            format!("WAL that the slot {name} needs was removed"),
            "whoever follows it cannot catch up",
            match is_logical {
                true => format!("create the subscription anew, with a copy of its data, and {drop}"),
                false => format!("rebuild the replica (pg_basebackup), or {drop}"),
            },
        )),
        Some("unreserved") => Some(Finding::new(
            Warning,
            "slot_unreserved",
            format!("the slot {name} needs WAL beyond max_slot_wal_keep_size"),
            "the next checkpoint may remove it, and whoever follows the slot cannot catch up then",
            "let its replica catch up, or raise max_slot_wal_keep_size".to_owned(),
        )),
        // It holds nothing back before it has been used.
        _ => held_bytes.filter(|_| !is_active).map(|held| {
            Finding::new(
                Warning,
                "slot_inactive",
                format!("the slot {name} is inactive, and holds back {} bytes of WAL", held.max(0)),
                "this grows with every write, until the disk is full or the slot is lost",
                format!("start its replica; if it is gone for good, and no tool like Patroni manages the slot, {drop}"),
            )
        }),
    }
}

/// Whether appends of this role wait for synchronous standbys, as far as the role may see.
fn waits(node: &NodeFacts, names: &str) -> bool {
    !names.is_empty() && node.sees_statistics && !matches!(node.setting("synchronous_commit"), "off" | "local")
}

/// For how many standbys a commit waits: `ANY 2 (a, b, c)`, `FIRST 2 (…)` or `2 (…)`; one for a list of names alone.
fn standbys_of(names: &str) -> i64 {
    let before = names.split_once('(').map_or("", |(before, _)| before);
    before.split_whitespace().last().and_then(|number| number.parse().ok()).unwrap_or(1)
}

/// Beyond this age, the server soon refuses all writes (it does so at two billion).
const NEAR_WRAPAROUND: i64 = 1_500_000_000;

/// The server freezes rows by itself from `autovacuum_freeze_max_age` on. At twice that age something keeps it from doing so.
fn wraparound(facts: &NodeFacts) -> Option<Finding> {
    let age = facts.transaction_age;
    let allowed = facts.number("autovacuum_freeze_max_age")?.saturating_mul(2).min(NEAR_WRAPAROUND);
    (age >= allowed).then(|| {
        Finding::new(
            if age >= NEAR_WRAPAROUND { Fault } else { Warning },
            "wraparound",
            format!("the database's oldest unfrozen row is {age} transactions old"),
            "at two billion the server refuses all writes; autovacuum should have frozen it long ago",
            "end what holds it back: old transactions (pg_stat_activity, pg_prepared_xacts), slots with an old xmin, hot_standby_feedback of a \
             replica; then VACUUM (FREEZE)",
        )
    })
}

fn connections(facts: &NodeFacts, pool: u32) -> Option<Finding> {
    let reserved = |setting| facts.number(setting).unwrap_or(0);
    let places = facts.number("max_connections")?
        - reserved("superuser_reserved_connections")
        - reserved("reserved_connections");
    // Superusers are exempt from the limits of roles and databases.
    let limits = [
        ("the role's CONNECTION LIMIT", facts.role_connections, "ALTER ROLE … CONNECTION LIMIT"),
        ("the database's CONNECTION LIMIT", facts.database_connections, "ALTER DATABASE … CONNECTION LIMIT"),
    ];
    let limits = limits
        .into_iter()
        .filter(|_| !facts.is_superuser)
        .filter_map(|(what, limit, raise)| Some((limit?, what, raise)));
    let server = (places, "max_connections", "raise max_connections");
    let (places, what, raise) = limits.chain([server]).min_by_key(|(places, ..)| *places)?;
    (i64::from(pool) > places).then(|| {
        Finding::new(
            Warning,
            "max_connections",
            format!(
                "your instances open up to {pool} connections, those for probes, notifications and heartbeats included, but only {places} are available by \
                 {what} ({} are in use now)",
                facts.connections
            ),
            "under load, connections are refused, and the router treats the node as one that accepts no connections",
            format!("{raise}, reduce the pools, or put PgBouncer in between"),
        )
    })
}
