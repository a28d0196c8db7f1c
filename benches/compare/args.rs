//! The command line.

use std::{path::PathBuf, time::Duration};

use crate::{Outcome, load};

pub(crate) const HELP: &str = "\
cargo compare append|query|decide|consume|growth|route|peers|load|scale [OPTIONS]

  --quick          100000 events and short rounds; the targets count on the full run
  --events N       events in the log (default: 1000000; growth: 10000000, beside 10000; peers: 100000;
                   load: 100000; route: none)
  --only A,B       only these figures; of peers: only these stores; of scale: only these dimensions
  --seed N         what the events are made from (default: 1)
  --folder PATH    where the servers' files lie, fixtures included (default: in cargo's target folder)
  --json FILE      all that was measured, for programs

of load:
  --rate N/s|max   appends that arrive in a second, or as fast as the writers can (default: 500/s)
  --seconds N      for how long, behind a second that does not count (default: 20)
  --writers N      who append at the same time, 1 to 64 (default: 32)
  --processes N    that they are spread over, 1 to 8 (default: 1)
  --replicas N     streaming replicas, which commits do not wait for, 0 to 2 (default: 0)
  --payload BYTES  of JSON in each event, 150 to 65536 (default: the library's, about 305)
  --shared-buffers SIZE   the server's cache (default: 1GB): with 16MB the log is beyond it
";

/// What to do.
#[derive(Debug)]
pub(crate) enum Command {
    Append(Args),
    Query(Args),
    Decide(Args),
    Consume(Args),
    Growth(Args),
    Route(Args),
    Peers(Args),
    Load(Args),
    Scale(Args),
    /// A process of the figures `procs4_…`; it gets the rest through its standard input.
    Worker,
    /// A process of `load` and `scale`, likewise.
    Loader,
    /// The process of Mainstem in `peers`, likewise.
    Peer,
    Help,
}

/// The options.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) quick: bool,
    pub(crate) events: u64,
    pub(crate) seed: u64,
    pub(crate) folder: PathBuf,
    pub(crate) json: Option<PathBuf>,
    pub(crate) load: load::Options,
    /// The command line of this run.
    pub(crate) command: String,
    only: Vec<String>,
}

impl Args {
    /// Cargo adds `--bench`.
    pub(crate) fn parse(args: impl Iterator<Item = String>) -> Outcome<Command> {
        let words: Vec<String> = args.filter(|arg| arg != "--bench").collect();
        let command = ["cargo compare", &words.join(" ")].join(" ");
        let mut args = words.into_iter();
        let subcommand = args.next().unwrap_or_default();
        let (names, default_events): (&[&str], u64) = match &*subcommand {
            "append" => (crate::append::FIGURES, 1_000_000),
            "query" => (crate::query::FIGURES, 1_000_000),
            "decide" => (crate::decide::FIGURES, 1_000_000),
            "consume" => (crate::consume::FIGURES, 1_000_000),
            "growth" => (crate::growth::FIGURES, 10_000_000),
            "route" => (crate::route::FIGURES, 10_000),
            "peers" => (crate::peers::FIGURES, 100_000),
            "load" => (load::FIGURES, 100_000),
            "scale" => (crate::scale::FIGURES, 1_000_000),
            "loader" => return Ok(Command::Loader),
            "peer" => return Ok(Command::Peer),
            "worker" => return Ok(Command::Worker),
            "help" | "--help" | "-h" | "" => return Ok(Command::Help),
            other => {
                return Err(format!(
                    "{other:?} is none of append, query, decide, consume, growth, route, peers, load and scale\n{HELP}"
                )
                .into());
            }
        };
        let mut quick = false;
        let mut events = None;
        let mut seed = 1;
        let mut folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("compare");
        let mut json = None;
        let mut only: Vec<String> = Vec::new();
        let mut load = load::Options::default();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match &*arg {
                "--quick" => quick = true,
                "--events" => events = Some(value()?.replace('_', "").parse()?),
                "--seed" => seed = value()?.parse()?,
                // The servers run as another user, in another folder.
                "--folder" => folder = std::path::absolute(value()?)?,
                "--json" => json = Some(PathBuf::from(value()?)),
                "--only" => only.extend(value()?.split(',').map(str::to_owned)),
                "--help" | "-h" => return Ok(Command::Help),
                other if subcommand == "load" && load.take(other, value)? => {}
                other => return Err(format!("{other:?} is no option of {subcommand}\n{HELP}").into()),
            }
        }
        if let Some(unknown) = only.iter().find(|name| !names.contains(&&***name)) {
            return Err(format!("{unknown:?} is no figure of {subcommand}; these are: {}", names.join(", ")).into());
        }
        let events = events.unwrap_or(if quick { 100_000 } else { default_events });
        if events < 10_000 {
            return Err(format!("--events {events}: too few to mean anything; use at least 10000").into());
        }
        load.check()?;
        let args = Self { quick, events, seed, folder, json, load, command, only };
        Ok(match &*subcommand {
            "append" => Command::Append(args),
            "query" => Command::Query(args),
            "route" => Command::Route(args),
            "peers" => Command::Peers(args),
            "load" => Command::Load(args),
            "scale" => Command::Scale(args),
            "decide" => Command::Decide(args),
            "consume" => Command::Consume(args),
            _ => Command::Growth(args),
        })
    }

    /// Whether any of these figures is wanted.
    pub(crate) fn wants(&self, names: &[&str]) -> bool {
        self.only.is_empty() || names.iter().any(|name| self.only.iter().any(|only| only == name))
    }

    /// One of the two values, for a quick or a full run.
    pub(crate) fn pick<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }

    /// The length of a round, in milliseconds for a quick or a full run.
    pub(crate) fn span(&self, quick: u64, full: u64) -> Duration {
        Duration::from_millis(self.pick(quick, full))
    }
}
