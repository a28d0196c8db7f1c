//! The options.

use serde::{Deserialize, Serialize};

use crate::{
    Failure, Outcome,
    routing::{self, Drill, Options, Parsed},
};

const HELP: &str = "\
drill append [--writers N] [--processes N] [--seconds N] [--seed N] [--break NAME|list]
drill decide [the same] [--first-read primary|replica|both]

  --writers N     how many append at the same time, 1 to 64                                  (default: 32)
  --processes N   processes that they are spread over, 1 to 16, no more than writers         (default: 4, or fewer)
  --seconds N     how long they go on, 3 to 3600                                             (default: 20)
  --seed N        what they choose by, and what breaks when, and of whom; what comes of it is the servers' matter
                                                                                             (default: by the clock)
  --first-read    where commands are read first: on the primary, on a replica, or half of them on each (default: both)
  --break NAME    break the append procedure in this way first: the drill must find out. `list` prints the names.
                  Only in a build with the feature __faults.

drill consume [--events N] [--writers N] [--seed N] [--break NAME|list]

  --events N      how many are appended, 2000 to 10000000; more where failovers take long    (default: 100000)
  --writers N     how many append at the same time, 1 to 64                                  (default: 16)
  --seed N        as above
  --break NAME    as above; positions-from-a-sequence is what consumers by position lose events by

drill soak [--minutes N] [--at-once N] [--seed N] [--round N]

  --minutes N     how long runs of all drills are begun, 1 to 10000; each has one in any case (default: 60)
  --at-once N     how many at the same time, 1 to 16                                         (default: 2)
  --seed N        how long each run is, its own seed, and the order of a round               (default: by the clock)
  --round N       only this round of the seed, from 0                                        (default: as many as there is time for)

Status 0: every rule held. 1: some did not, and are named. 2: nothing can be said, for the reason on standard error;
of a soak: one of the drills has shown nothing, or nothing in most of its runs. It is named in the last line.
";

pub(crate) enum Command {
    Append(Args),
    Routing(Options),
    Decide(Args),
    Consume(ConsumeArgs),
    Soak(SoakArgs),
    /// One of the processes that `consume` starts.
    Consumers,
    /// One of the processes that `append` starts.
    Writers,
    /// One of the processes that `decide` starts.
    Deciders,
    Print(String),
}

#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) writers: u64,
    pub(crate) processes: u64,
    pub(crate) seconds: u64,
    pub(crate) seed: u64,
    pub(crate) fault: Option<String>,
    pub(crate) first_read: FirstRead,
}

/// Where the commands of `decide` read first.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) enum FirstRead {
    Primary,
    Replica,
    #[default]
    Both,
}

impl Args {
    pub(crate) fn reads_replicas(&self) -> bool {
        !matches!(self.first_read, FirstRead::Primary)
    }
}

#[derive(Debug)]
pub(crate) struct ConsumeArgs {
    pub(crate) events: u64,
    pub(crate) writers: u64,
    pub(crate) seed: u64,
    pub(crate) fault: Option<String>,
}

#[derive(Debug)]
pub(crate) struct SoakArgs {
    pub(crate) minutes: u64,
    pub(crate) at_once: u64,
    pub(crate) seed: u64,
    /// Only this round.
    pub(crate) round: Option<u64>,
}

impl Command {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Outcome<Self> {
        let first = words.next();
        let command = match first.as_deref() {
            Some("append") => Self::Append,
            Some("decide") => Self::Decide,
            Some("consume") => return consume(words),
            Some("soak") => return soak(words),
            Some("consumers") => return Ok(Self::Consumers),
            Some("writers") => return Ok(Self::Writers),
            Some("deciders") => return Ok(Self::Deciders),
            Some("help" | "--help" | "-h") => return Ok(Self::Print(format!("{HELP}\n{}", routing::HELP))),
            Some(name) if Drill::named(name).is_some() => {
                let drill = Drill::named(name).ok_or("no such drill")?;
                return Ok(match Options::parse(drill, words)? {
                    Parsed::Run(options) => Self::Routing(options),
                    Parsed::Print(text) => Self::Print(text),
                });
            }
            Some(other) => return Err(format!("there is no drill {other:?}\n\n{HELP}").into()),
            None => return Err(format!("say which drill\n\n{HELP}").into()),
        };
        let (mut writers, mut processes, mut seconds) = (32, None, 20);
        let (mut seed, mut fault, mut first_read) = (seed_by_the_clock()?, None, FirstRead::default());
        while let Some(option) = words.next() {
            let mut value = || words.next().ok_or_else(|| Failure::from(format!("{option} needs a value")));
            match &*option {
                "--writers" => writers = number(&option, &value()?, 1, 64)?,
                "--processes" => processes = Some(number(&option, &value()?, 1, 16)?),
                "--seconds" => seconds = number(&option, &value()?, 3, 3600)?,
                "--seed" => seed = number(&option, &value()?, 0, u64::MAX)?,
                "--first-read" if first.as_deref() == Some("decide") => {
                    first_read = match &*value()? {
                        "primary" => FirstRead::Primary,
                        "replica" => FirstRead::Replica,
                        "both" => FirstRead::Both,
                        other => return Err(format!("--first-read is primary, replica or both, not {other:?}").into()),
                    }
                }
                "--break" => match value()? {
                    list if list == "list" => return names().map(Self::Print),
                    name => fault = Some(known(name)?),
                },
                "--help" | "-h" => return Ok(Self::Print(HELP.to_owned())),
                _ => return Err(format!("there is no option {option:?}\n\n{HELP}").into()),
            }
        }
        let processes = processes.unwrap_or_else(|| 4.min(writers));
        if processes > writers {
            return Err(format!("{processes} processes are more than {writers} writers").into());
        }
        Ok(command(Args { writers, processes, seconds, seed, fault, first_read }))
    }
}

fn consume(mut words: impl Iterator<Item = String>) -> Outcome<Command> {
    let mut args = ConsumeArgs { events: 100_000, writers: 16, seed: seed_by_the_clock()?, fault: None };
    while let Some(option) = words.next() {
        let mut value = || words.next().ok_or_else(|| Failure::from(format!("{option} needs a value")));
        match &*option {
            "--events" => args.events = number(&option, &value()?, 2000, 10_000_000)?,
            "--writers" => args.writers = number(&option, &value()?, 1, 64)?,
            "--seed" => args.seed = number(&option, &value()?, 0, u64::MAX)?,
            "--break" => match value()? {
                list if list == "list" => return names().map(Command::Print),
                name => args.fault = Some(known(name)?),
            },
            "--help" | "-h" => return Ok(Command::Print(HELP.to_owned())),
            _ => return Err(format!("there is no option {option:?}\n\n{HELP}").into()),
        }
    }
    Ok(Command::Consume(args))
}

fn soak(mut words: impl Iterator<Item = String>) -> Outcome<Command> {
    let mut args = SoakArgs { minutes: 60, at_once: 2, seed: seed_by_the_clock()?, round: None };
    while let Some(option) = words.next() {
        let mut value = || words.next().ok_or_else(|| Failure::from(format!("{option} needs a value")));
        match &*option {
            "--minutes" => args.minutes = number(&option, &value()?, 1, 10_000)?,
            "--at-once" => args.at_once = number(&option, &value()?, 1, 16)?,
            "--seed" => args.seed = number(&option, &value()?, 0, u64::MAX)?,
            "--round" => args.round = Some(number(&option, &value()?, 0, u64::MAX)?),
            "--help" | "-h" => return Ok(Command::Print(HELP.to_owned())),
            _ => return Err(format!("there is no option {option:?}\n\n{HELP}").into()),
        }
    }
    Ok(Command::Soak(args))
}

/// The seed if none is given. It is printed, so that a run can be repeated.
pub(crate) fn seed_by_the_clock() -> Outcome<u64> {
    Ok(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.subsec_nanos().into())
}

pub(crate) fn number(option: &str, text: &str, least: u64, most: u64) -> Outcome<u64> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("{option} is a number from {least} to {most}, not {text:?}").into())
}

#[cfg(feature = "__faults")]
fn names() -> Outcome<String> {
    Ok(crate::faults::FAULTS.iter().map(|fault| format!("{}\n", fault.name)).collect())
}

#[cfg(feature = "__faults")]
fn known(name: String) -> Outcome<String> {
    match crate::faults::FAULTS.iter().any(|fault| fault.name == name) {
        true => Ok(name),
        false => Err(format!("there is no fault {name:?}; `--break list` prints the names").into()),
    }
}

#[cfg(not(feature = "__faults"))]
const NO_FAULTS: &str = "this build has no faults to break the log with: build it with --features testing,__faults";

#[cfg(not(feature = "__faults"))]
fn names() -> Outcome<String> {
    Err(NO_FAULTS.into())
}

#[cfg(not(feature = "__faults"))]
fn known(_name: String) -> Outcome<String> {
    Err(NO_FAULTS.into())
}
