//! What was asked for.

use std::path::PathBuf;

use crate::{
    Failure, Outcome,
    args::{number, seed_by_the_clock},
};

pub(crate) const HELP: &str = "\
drill causal|http|failover|silence|shield|balance [--rounds N] [--seed N] [--judge] [--asynchronous]
                                                   [--timeline FILE] [--break NAME|list]

  causal          clients write and read, with tokens and in sessions: a thousand reads a round (default: 1000 rounds)
  http            browsers write and read through two instances: a thousand pairs a round      (default:   10 rounds)
  failover        primaries are killed, stopped, replaced, and come back writable            (default:    6 rounds)
  silence         nodes stop answering, at the log-in, idle, in an answer                     (default: 1000 rounds)
  shield          all replicas are gone for as many seconds as there are rounds               (default:   20 rounds)
  balance         equal replicas, a slow one, equal ones again, for as many seconds each      (default:    6 rounds)

  --rounds N      how often, 1 to 100000
  --reads N       of causal: the same in reads, rounded up to a thousand
  --seed N        what breaks when, and of whom: losses, silences, lags, outages, victims       (default: by the clock)
  --judge         limits on time count, too: for a machine that does nothing else
  --asynchronous  for failover: commits wait for no standby; what is lost has to be told, exactly that
  --timeline FILE for failover: who served eventual reads, how old what they saw, errors, by tenths of a second, as JSON lines
  --break NAME    break a rule first: the drill must find out. `list` prints the names.
                  Only in a build with the feature __faults.
";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drill {
    Causal,
    Http,
    Failover,
    Silence,
    Shield,
    Balance,
}

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) drill: Drill,
    pub(crate) rounds: u32,
    pub(crate) seed: u64,
    pub(crate) judge: bool,
    pub(crate) asynchronous: bool,
    pub(crate) timeline: Option<PathBuf>,
    pub(crate) fault: Option<String>,
}

pub(crate) enum Parsed {
    Run(Options),
    Print(String),
}

impl Drill {
    const ALL: [Self; 6] = [Self::Causal, Self::Http, Self::Failover, Self::Silence, Self::Shield, Self::Balance];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|drill| drill.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Causal => "causal",
            Self::Http => "http",
            Self::Failover => "failover",
            Self::Silence => "silence",
            Self::Shield => "shield",
            Self::Balance => "balance",
        }
    }
}

impl Options {
    /// For `causal`.
    pub(crate) const READS_OF_A_ROUND: u64 = 1000;

    pub(crate) fn parse(drill: Drill, mut words: impl Iterator<Item = String>) -> Outcome<Parsed> {
        let rounds = match drill {
            Drill::Causal | Drill::Silence => 1000,
            Drill::Http => 10,
            // With fewer appends, the p99 is the longest one or the next.
            Drill::Shield => 20,
            Drill::Failover | Drill::Balance => 6,
        };
        let seed = seed_by_the_clock()?;
        let mut options = Self { drill, rounds, seed, judge: false, asynchronous: false, timeline: None, fault: None };
        while let Some(option) = words.next() {
            let mut value = || words.next().ok_or_else(|| Failure::from(format!("{option} needs a value")));
            match &*option {
                "--rounds" => {
                    let text = value()?;
                    let rounds = text.parse().ok().filter(|rounds| (1..=100_000).contains(rounds));
                    let wrong = || format!("--rounds is a number from 1 to 100000, not {text:?}");
                    options.rounds = rounds.ok_or_else(wrong)?;
                }
                "--reads" if drill == Drill::Causal => {
                    let text = value()?;
                    let rounds = text.parse().ok().map(|reads: u64| reads.div_ceil(Self::READS_OF_A_ROUND));
                    let rounds = rounds.filter(|rounds| (1..=100_000).contains(rounds));
                    let wrong = || format!("--reads is a number from 1 to 100000000, not {text:?}");
                    options.rounds = rounds.and_then(|rounds| rounds.try_into().ok()).ok_or_else(wrong)?;
                }
                "--seed" => options.seed = number(&option, &value()?, 0, u64::MAX)?,
                "--judge" => options.judge = true,
                "--asynchronous" if drill == Drill::Failover => options.asynchronous = true,
                "--timeline" if drill == Drill::Failover => options.timeline = Some(PathBuf::from(value()?)),
                "--break" => match value()? {
                    list if list == "list" => return Ok(Parsed::Print(names(drill)?)),
                    name => options.fault = Some(name),
                },
                "--help" | "-h" => return Ok(Parsed::Print(HELP.to_owned())),
                _ => return Err(format!("there is no option {option:?}\n\n{HELP}").into()),
            }
        }
        Ok(Parsed::Run(options))
    }

    /// Whether to break it in this way.
    pub(crate) fn is_broken_by(&self, fault: &str) -> bool {
        self.fault.as_deref() == Some(fault)
    }

    #[cfg(feature = "__faults")]
    pub(crate) fn break_the_library(&self) -> Outcome {
        self.fault.as_ref().map_or(Ok(()), |name| super::faults::turn_on(self.drill, name))
    }

    #[cfg(not(feature = "__faults"))]
    pub(crate) fn break_the_library(&self) -> Outcome {
        self.fault.as_ref().map_or(Ok(()), |_| Err(NO_FAULTS.into()))
    }
}

#[cfg(feature = "__faults")]
fn names(drill: Drill) -> Outcome<String> {
    Ok(super::faults::of(drill).map(|fault| format!("{}\n", fault.name)).collect())
}

#[cfg(not(feature = "__faults"))]
const NO_FAULTS: &str = "this build has no faults to break the router with: build it with --features testing,__faults";

#[cfg(not(feature = "__faults"))]
fn names(_drill: Drill) -> Outcome<String> {
    Err(NO_FAULTS.into())
}
