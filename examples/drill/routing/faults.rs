//! Deliberate faults of the router, its cluster or its callers. Unused without `--break`.

use super::options::Drill;
use crate::Outcome;

/// A mistake that other routers make, and the drill that must detect it.
pub(crate) struct Fault {
    drill: Drill,
    pub(crate) name: &'static str,
    /// The rule of the library that it omits. Without one, the drill itself does something wrong.
    flaw: Option<&'static str>,
}

const fn fault(drill: Drill, name: &'static str, flaw: Option<&'static str>) -> Fault {
    Fault { drill, name, flaw }
}

const FAULTS: &[Fault] = &[
    // Writes go to any node that accepts them.
    fault(Drill::Failover, "any-writable", Some("AnyWritable")),
    // A fence is forgotten while the new primary is down.
    fault(Drill::Failover, "forget-newest", Some("ForgetNewest")),
    // Commits do not wait for a standby.
    fault(Drill::Failover, "asynchronous", None),
    // Callers that do not know the outcome of an append make another one.
    fault(Drill::Failover, "new-ids", None),
    // A node that was gone stays out of service.
    fault(Drill::Silence, "never-readmit", Some("NeverReadmit")),
    // Only the socket has a limit. The log-in has none, as in the driver itself.
    fault(Drill::Silence, "no-connect-limit", Some("NoConnectLimit")),
    // Cancelled calls keep their place in the pool.
    fault(Drill::Silence, "leak-places", Some("LeakPlaces")),
    // All reads fall back to the primary.
    fault(Drill::Shield, "stampede", None),
    fault(Drill::Shield, "never-readmit", Some("NeverReadmit")),
    // Nobody asks the replica that serves the read.
    fault(Drill::Causal, "no-guard", Some("IgnoreGuard")),
    // The token dates from before the commit.
    fault(Drill::Causal, "token-inside-the-write", None),
    // The replica reports its own progress in the read itself.
    fault(Drill::Causal, "guard-as-a-column", None),
    // Instances that do not pass the token on, or ignore it.
    fault(Drill::Http, "token-not-given", None),
    fault(Drill::Http, "token-not-taken", None),
    // One cookie for everything: a late response removes the token of a write that it does not know of.
    fault(Drill::Http, "one-cookie", None),
    fault(Drill::Balance, "always-first", Some("AlwaysFirst")),
    fault(Drill::Balance, "ignore-latency", Some("IgnoreLatency")),
];

pub(crate) fn of(drill: Drill) -> impl Iterator<Item = &'static Fault> {
    FAULTS.iter().filter(move |fault| fault.drill == drill)
}

pub(crate) fn turn_on(drill: Drill, name: &str) -> Outcome {
    let unknown = || format!("the drill {} has no fault {name:?}; `--break list` prints the names", drill.name());
    let fault = of(drill).find(|fault| fault.name == name).ok_or_else(unknown)?;
    match fault.flaw {
        Some(flaw) if !mainstem::__faults::turn_on(flaw) => {
            Err(format!("the library has no rule {flaw} any more").into())
        }
        _ => Ok(()),
    }
}
