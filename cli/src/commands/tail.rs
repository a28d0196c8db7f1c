//! `mainstem tail`.

use clap::{ArgGroup, Args};
use mainstem::{Consistency, Event, EventStore, Filter, LogName, PostgresEventStore, Start, Subscribe};

use crate::{
    failure::{Failure, Result},
    filter::FilterArgs,
    interrupt::Interrupt,
    nodes::Nodes,
    output::{self, Output},
    record::Record,
    time::Time,
};

/// Print the events of the log, and new ones as they arrive, as JSON lines
///
/// Prints each event once, in the order of the log, across lost connections and failovers. Reads
/// from a replica if there is one. Begins at the end of the log unless an option says otherwise.
/// Ends with Ctrl-C, which is a failure only with --no-follow, before everything was printed.
///
/// A line has position, id, type, tags, payload (or content_type and bytes in base64), metadata,
/// occurred_at and recorded_at, and stream and version if the event has them.
#[derive(Args)]
#[command(verbatim_doc_comment, group = ArgGroup::new("start").multiple(false))]
pub(crate) struct TailArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Begin after this position; 0 is the beginning of the log
    #[arg(long, value_name = "POSITION", group = "start")]
    after: Option<u64>,
    /// Begin with the first event recorded at this time or later, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", group = "start")]
    since: Option<Time>,
    /// End after the last event that is there now, instead of waiting for more
    #[arg(long)]
    no_follow: bool,
    /// End after this many events
    #[arg(long, value_name = "EVENTS")]
    limit: Option<u64>,
    /// Read from the primary
    #[arg(long)]
    primary: bool,
}

pub(crate) async fn run(args: TailArgs, nodes: Nodes, log: LogName, interrupt: &Interrupt) -> Result<()> {
    let filter = args.filter.filter()?;
    let begun = interrupt.or(CUT, async {
        let store = nodes.store(log).await?;
        let head = store.last(&Filter::any_event()).consistency(Consistency::Strong).await?;
        Ok::<_, Failure>((store, head))
    });
    let (store, head) = match begun.await {
        Ok(begun) => begun?,
        Err(interrupted) if args.no_follow => return Err(interrupted),
        Err(_) => return Ok(()),
    };
    let end = head.as_ref().map_or(0, |event| event.position());
    let start = match (args.after, args.since) {
        // It would wait for an event that may never arrive, or is not the intended one.
        (Some(position), _) if position > end => {
            return Err(Failure::usage(format!("--after {position} is beyond the log, which ends at position {end}")));
        }
        (Some(position), _) => Start::AfterPosition(position),
        (None, Some(Time(time))) => Start::RecordedFrom(time),
        (None, None) => head.as_ref().map_or(Start::Beginning, |event| Start::After(event.mark())),
    };
    let mut printer = Printer { output: Output::stdout(), left: args.limit.unwrap_or(u64::MAX) };
    if args.no_follow {
        // A replica may serve the read if it has what was there when the command began.
        let level = if args.primary { Consistency::Strong } else { Consistency::AtLeast(head.token().clone()) };
        let read = read(&store, &filter, start, level, end, &mut printer);
        return interrupt.or(CUT, read).await?;
    }
    let level = if args.primary { Consistency::Strong } else { Consistency::Eventual };
    let mut subscription = store.subscribe(&filter).start_at(start).consistency(level).build();
    while printer.left > 0 {
        let batch = tokio::select! {
            biased;
            () = interrupt.come() => break,
            batch = subscription.next_batch() => batch,
        };
        match batch {
            None => break,
            Some(Ok(batch)) => printer.print(batch.events())?,
            // The subscription continues by itself.
            Some(Err(error)) if error.is_retryable() => {
                output::say(format_args!("mainstem: {}; retrying", error.report()));
            }
            Some(Err(error)) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The message of an interrupted `--no-follow`.
const CUT: &str = "interrupted: not all events were printed";

/// Prints the events up to a position.
async fn read(
    store: &PostgresEventStore,
    filter: &Filter,
    mut start: Start,
    level: Consistency,
    end: u64,
    printer: &mut Printer,
) -> Result<()> {
    const PIECE: u64 = 1000;
    loop {
        let fetched = store.fetch(filter, start).limit(PIECE).consistency(level.clone()).await?;
        let wanted = fetched.iter().take_while(|event| event.position() <= end).count();
        printer.print(&fetched[..wanted])?;
        if wanted < fetched.len() || fetched.is_at_head() || printer.left == 0 {
            return Ok(());
        }
        start = fetched.cursor().into();
    }
}

struct Printer {
    output: Output,
    /// How many more events to print.
    left: u64,
}

impl Printer {
    fn print(&mut self, events: &[Event]) -> Result<()> {
        for event in events {
            if self.left == 0 {
                break;
            }
            self.output.json(&Record::of(event)?)?;
            self.left -= 1;
        }
        self.output.flush()
    }
}
