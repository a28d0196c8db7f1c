//! The router, its cluster or its callers, broken on purpose. Without `--break` nothing of this is used.

use super::options::Drill;
use crate::Outcome;

/// A way in which other routers are wrong, and what has to find it.
pub(crate) struct Fault {
    drill: Drill,
    pub(crate) name: &'static str,
    /// The rule of the library that it leaves out; without one it is the drill itself that does something wrong.
    flaw: Option<&'static str>,
}

const fn fault(drill: Drill, name: &'static str, flaw: Option<&'static str>) -> Fault {
    Fault { drill, name, flaw }
}

const FAULTS: &[Fault] = &[
    // Writes go to whoever takes them.
    fault(Drill::Failover, "any-writable", Some("AnyWritable")),
    // A fence is forgotten while the new primary is down.
    fault(Drill::Failover, "forget-newest", Some("ForgetNewest")),
    // Commits wait for no standby.
    fault(Drill::Failover, "asynchronous", None),
    // Who does not know what became of an append makes another one.
    fault(Drill::Failover, "new-ids", None),
    // Who was gone stays so.
    fault(Drill::Silence, "never-readmit", Some("NeverReadmit")),
    // Only the socket has a limit, the log-in has none: the driver's own.
    fault(Drill::Silence, "no-connect-limit", Some("NoConnectLimit")),
    // What was given up keeps its place.
    fault(Drill::Silence, "leak-places", Some("LeakPlaces")),
    // All reads fall back to the primary.
    fault(Drill::Shield, "stampede", None),
    fault(Drill::Shield, "never-readmit", Some("NeverReadmit")),
    // Nobody asks the replica that serves.
    fault(Drill::Causal, "no-guard", Some("IgnoreGuard")),
    // The token is of before the commit.
    fault(Drill::Causal, "token-inside-the-write", None),
    // The replica says in the read itself how far it is.
    fault(Drill::Causal, "guard-as-a-column", None),
    // Instances that keep the token to themselves, or look at none.
    fault(Drill::Http, "token-not-given", None),
    fault(Drill::Http, "token-not-taken", None),
    // One cookie for all: an answer that comes late takes away the token of a write that it knows nothing of.
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
