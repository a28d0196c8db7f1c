//! Problems of the log, and of the role's rights.

use mainstem::{Error, ErrorKind};

use super::{
    facts::{LogFacts, NodeFacts},
    finding::{
        Finding,
        Severity::{Fault, Note, Warning},
    },
};

/// Below this number of rows, a good planner scans the whole log.
const LONG_LOG: i64 = 10_000;

/// A table of this size without statistics has been restored or upgraded, or nobody may analyse it.
const SIZABLE: i64 = 1 << 20;

pub(crate) fn findings(node: &str, of: &NodeFacts, log: &LogFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |finding: Finding| findings.push(finding.at(node));
    let role = &of.role;
    if of.is_superuser {
        add(Finding::new(
            Note,
            "superuser",
            format!("the role {role:?} is a superuser"),
            "a superuser can drop the log, and PostgreSQL does not check its grants",
            "give the application a role of its own (LogName::grants lists its grants)",
        ));
    } else if !of.sees_statistics {
        add(Finding::new(
            Note,
            "no_statistics",
            format!("the role {role:?} is not a member of pg_read_all_stats"),
            "replicas hide their timeline from the role: after a failover, reads with a bound wait for minutes",
            format!("GRANT pg_monitor TO {role:?}"),
        ));
    }
    // `unfit` reports the rest.
    if !log.is_there {
        return findings;
    }
    let lacks = |right: &str| format!("the role {role:?} lacks {right}");
    let grant = "run the statements of LogName::grants as the owner of the log";
    if !log.may_use_schema {
        add(Finding::new(Fault, "grants", lacks("USAGE on the schema"), "the role can neither read nor append", grant));
    } else if !log.may_select {
        add(Finding::new(Fault, "grants", lacks("SELECT on the log"), "the role can neither read nor append", grant));
    } else if !log.may_insert || !log.may_execute {
        let right = if log.may_insert { "EXECUTE on the append procedure" } else { "INSERT on the log" };
        add(Finding::new(
            Warning,
            "grants",
            lacks(right),
            "the role can read but not append: is it meant for a reader?",
            grant,
        ));
    }
    for index in &log.invalid_indexes {
        add(Finding::new(
            Warning,
            "invalid_index",
            format!("the index {index} is not valid"),
            "its build was interrupted: no search uses it, but each append maintains it",
            format!(
                "REINDEX INDEX CONCURRENTLY {index}; but if its name ends in _ccnew or _ccold (or that and a number), it is left over from \
                 such a command: DROP INDEX CONCURRENTLY {index}"
            ),
        ));
    }
    if log.rows < 0 && log.bytes >= SIZABLE {
        add(Finding::new(
            Warning,
            "not_analyzed",
            format!("the log has {} MB and no statistics", log.bytes >> 20),
            "searches are planned blindly, and may scan the whole log",
            "ANALYZE, as after each restore and each pg_upgrade",
        ));
    }
    for (by, plan) in &log.plans {
        if log.rows >= LONG_LOG && plan.reads_whole_log() {
            add(Finding::new(
                Warning,
                "guard_plan",
                format!(
                    "a condition by {by} is checked by a scan of the whole log: {}",
                    plan.text().replace('\n', "; ")
                ),
                "each append with such a condition takes as long as reading the log",
                "look for a missing index (see the finding `schema`), enable_… settings of the role or the database, and missing \
                 statistics (ANALYZE)",
            ));
        }
    }
    findings
}

/// The result of the library's own check.
pub(crate) fn unfit(error: &Error) -> Finding {
    let (severity, todo) = match error.kind() {
        ErrorKind::Schema => (Fault, "run `mainstem migrate`; restore by hand what it cannot repair"),
        // Then the findings of the nodes say more.
        _ => (Warning, "see the other findings"),
    };
    let finding = Finding::new(severity, "schema", error.report(), "appends and reads fail, or are slow", todo);
    match error.node() {
        Some(node) => finding.at(node),
        None => finding,
    }
}
