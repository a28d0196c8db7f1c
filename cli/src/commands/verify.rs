//! `mainstem verify`.

use std::time::Duration;

use clap::Args;
use mainstem::{Client, LogName, Router, tokio_postgres::types::ToSql};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    failure::{BROKEN_PIPE, FAULTS, Failure, Result},
    nodes::{Nodes, Reached, leads, put_into, reach},
    output::{self, Output},
};

/// Check that the log is complete, and the same on every node
///
/// On the primary: positions are 1, 2, 3 … without a gap, every append is complete, and every stream
/// has the versions 1, 2, 3 … in the order of the log. Each replica must have the same events as the
/// primary, compared by digests of their whole content, and none that the primary lacks, as an old
/// primary has after a failover. A replica that lags is waited for, for at most --timeout, and then
/// compared as far as it is.
///
/// Reads the whole log on every node, and writes nothing. Prints a line for each node and for each
/// fault. The exit status is 20 if there are faults, and 1 if a node could not be checked, or has
/// nothing yet of what was to be compared.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct VerifyArgs {
    /// Begin after this position; the log must reach it
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    after: u64,
    /// Check this many events at a time. With a larger chunk a statement may exceed --timeout; a smaller one slows the check down
    #[arg(long, value_name = "EVENTS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    chunk: u64,
}

pub(crate) async fn run(args: VerifyArgs, nodes: Nodes, log: LogName) -> Result<()> {
    verify(args, nodes, log).await.map_err(Failure::of_reads)
}

async fn verify(args: VerifyArgs, nodes: Nodes, log: LogName) -> Result<()> {
    // No node is refused: an old primary that still runs is one of those to be looked at.
    let router = nodes.builder()?.build()?;
    router.ask_readiness().await;
    let (mut primary, mut replicas, mut unseen) = (None, Vec::new(), Vec::new());
    for Reached { name, client, is_primary } in reach(&router).await {
        match client {
            Ok(client) if is_primary => primary = Some(Node::new(client, &log)),
            Ok(client) => replicas.push(Node::new(client, &log)),
            Err(error) => unseen.push(format!("{name}: not checked: {}", error.report())),
        }
    }
    let Some(primary) = primary else {
        return Err(Failure::failed("there is no primary to compare with").and(unseen.join("\n")));
    };
    let mut faults = Faults { output: Output::stdout(), count: 0 };
    let checked = check(&args, (&nodes, &router), &primary, &replicas, &mut unseen, &mut faults).await;
    // Faults that were printed are what counts, whatever prevented the rest of the check.
    match (checked, faults.count, unseen.len()) {
        (Err(error), _, _) if error.status == BROKEN_PIPE => Err(error),
        (Err(error), 0, _) => Err(error.and(unseen.join("\n"))),
        (Ok(()), 0, 0) => Ok(()),
        (Ok(()), 0, 1) => Err(Failure::failed("one node was not checked")),
        (Ok(()), 0, more) => Err(Failure::failed(format!("{more} nodes were not checked"))),
        (checked, count, _) => {
            let found =
                if count == 1 { "one fault was found".to_owned() } else { format!("{count} faults were found") };
            let failure = Failure::new(FAULTS, found);
            let Err(error) = checked else { return Err(failure) };
            let rest = format!("the check did not get to its end: {}", error.message);
            Err(failure.and(rest).and(unseen.join("\n")))
        }
    }
}

/// The faults, printed as they are found.
struct Faults {
    output: Output,
    count: usize,
}

impl Faults {
    fn add(&mut self, node: &Node, what: &str) -> Result<()> {
        self.count += 1;
        self.output.line(format!("{}: FAULT: {what}", node.name()))
    }
}

/// A replica may show a commit before the primary does, which waits until a synchronous one has confirmed it. The events of a
/// replica are waited for on the primary for this long.
const CONFIRMED: Duration = Duration::from_secs(5);

/// A replica, as far as it was compared.
struct Compared<'a> {
    replica: &'a Node,
    /// Where its log ended.
    end: i64,
    differs: bool,
}

async fn check(
    args: &VerifyArgs,
    (nodes, router): (&Nodes, &Router),
    primary: &Node,
    replicas: &[Node],
    unseen: &mut Vec<String>,
    faults: &mut Faults,
) -> Result<()> {
    let begun = primary.head().await?.position;
    let begin = match i64::try_from(args.after) {
        Ok(begin) if begin <= begun => begin,
        _ => {
            let what = format!("--after {} is beyond the log, which ends at position {begun}", args.after);
            return Err(Failure::usage(what));
        }
    };
    let waited = Instant::now() + nodes.limit();
    let mut compared = Vec::with_capacity(replicas.len());
    for replica in replicas {
        match replica.wait_for(begun, waited).await {
            Ok(Head { position: end, .. }) if end < begin || end == begin && begin < begun => {
                let lag = begun - end;
                unseen
                    .push(format!("{}: not compared: it ends at position {end}, {lag} events behind", replica.name()));
            }
            Ok(Head { position: end, .. }) => compared.push(Compared { replica, end, differs: false }),
            Err(error) => unseen.push(format!("{}: not checked: {}", replica.name(), error.message)),
        }
    }
    // What a replica has beyond the end that was, has come to the primary since, or is of another history.
    let furthest = compared.iter().map(|one| one.end).max().unwrap_or(begun);
    let head = primary.wait_for(furthest, Instant::now() + CONFIRMED.min(nodes.limit())).await?;
    if head.missing != 0 {
        faults.add(primary, &format!("the log ends within an append: {} of its events are missing", head.missing))?;
    }
    if compared.iter().any(|one| one.end > head.position) && !leads(&router.status(), primary.client.node()) {
        return Err(Failure::failed("there was a failover during the check: repeat it"));
    }
    for one in compared.iter().filter(|one| one.end > head.position) {
        let what = format!(
            "has {} events that the primary lacks, after position {}: it was the primary before a failover, or the primary still \
             waits for a synchronous replica to confirm them",
            one.end - head.position,
            head.position
        );
        faults.add(one.replica, &what)?;
    }
    let mut compared = of_one_history(begin, primary, compared, unseen, faults).await?;
    let steps = args.chunk.cast_signed();
    let bar = output::progress((head.position - begin).cast_unsigned(), "events");
    let mut from = begin;
    while from < head.position {
        let until = from.saturating_add(steps).min(head.position);
        check_primary(primary, from, until, faults).await?;
        let mut left = Vec::with_capacity(compared.len());
        for mut one in compared {
            let until = until.min(one.end);
            if !one.differs && until > from {
                match difference(primary, one.replica, from, until).await {
                    Ok(None) => {}
                    Ok(Some(what)) => {
                        one.differs = true;
                        faults.add(one.replica, &what)?;
                    }
                    // One sick replica prevents no check of the others. If it is the primary, its own check is next.
                    Err(error) => {
                        unseen.push(format!(
                            "{}: not checked after position {from}: {}",
                            one.replica.name(),
                            error.message
                        ));
                        continue;
                    }
                }
            }
            left.push(one);
        }
        compared = left;
        bar.set_position((until - begin).cast_unsigned());
        from = until;
    }
    bar.finish_and_clear();
    let output = &mut faults.output;
    output.line(format!(
        "{}: {} events, up to position {}{}",
        primary.name(),
        head.position - begin,
        head.position,
        shown(head.id)
    ))?;
    for Compared { replica, end, differs } in compared {
        let rest = if end > head.position {
            "; the primary lacks what it has after that".to_owned()
        } else if end < begun {
            // What the primary has got since, it need not have.
            format!("; it is {} events behind", begun - end)
        } else {
            String::new()
        };
        let end = end.min(head.position);
        let is = if differs { "is not a prefix of the primary's log" } else { "the same as the primary" };
        output.line(format!("{}: {is}, up to position {end}{rest}", replica.name()))?;
    }
    for line in unseen.iter() {
        output.line(line)?;
    }
    output.flush()
}

/// Compares the event that the check begins after, which tells one history from another, and leaves out nodes that cannot say.
async fn of_one_history<'a>(
    begin: i64,
    primary: &Node,
    compared: Vec<Compared<'a>>,
    unseen: &mut Vec<String>,
    faults: &mut Faults,
) -> Result<Vec<Compared<'a>>> {
    if begin == 0 {
        return Ok(compared);
    }
    let here = primary.id(begin).await?;
    let mut left = Vec::with_capacity(compared.len());
    for mut one in compared {
        match one.replica.id(begin).await {
            Ok(there) if there == here => {}
            Ok(there) => {
                one.differs = true;
                faults.add(one.replica, &other_event(begin, there, here))?;
            }
            Err(error) => {
                unseen.push(format!("{}: not checked: {}", one.replica.name(), error.message));
                continue;
            }
        }
        left.push(one);
    }
    Ok(left)
}

fn other_event(position: i64, there: Option<Uuid>, here: Option<Uuid>) -> String {
    let shown = |id: Option<Uuid>| id.map_or_else(|| "no event".to_owned(), |id| format!("event {id}"));
    format!("position {position} has {}, and {} on the primary", shown(there), shown(here))
}

async fn check_primary(primary: &Node, from: i64, until: i64, faults: &mut Faults) -> Result<()> {
    let ours = primary.chunk(from, until).await?;
    if let Some(position) = ours.gap {
        let before = position - 1;
        faults.add(
            primary,
            &format!("there is a gap: position {before} has no event, but position {position} has one"),
        )?;
    } else if ours.count != until - from {
        faults.add(primary, &format!("events are missing after position {}", from + ours.count))?;
    }
    if let Some(position) = ours.torn {
        faults.add(primary, &format!("the append before position {position} is incomplete"))?;
    }
    if let Some((position, stream, version)) = primary.broken_stream(from, until).await? {
        let what = format!(
            "position {position} has version {version} of the stream {stream:?}, but the version before it is missing"
        );
        faults.add(primary, &what)?;
    }
    Ok(())
}

/// How a replica differs from the primary in these events, if it does.
async fn difference(primary: &Node, replica: &Node, from: i64, until: i64) -> Result<Option<String>> {
    let is_same = async |from: i64, until: i64| -> Result<bool> {
        Ok(primary.chunk(from, until).await?.digest == replica.chunk(from, until).await?.digest)
    };
    if is_same(from, until).await? {
        return Ok(None);
    }
    // Find the first event that differs: all up to `same` are equal.
    let (mut same, mut not) = (from, until);
    while not - same > 1 {
        let middle = same + (not - same) / 2;
        if is_same(same, middle).await? { same = middle } else { not = middle }
    }
    let (here, there) = (primary.id(not).await?, replica.id(not).await?);
    Ok(Some(match here {
        Some(id) if here == there => format!("at position {not} the event {id} differs from the primary's"),
        _ => other_event(not, there, here),
    }))
}

fn shown(id: Option<Uuid>) -> String {
    id.map_or_else(String::new, |id| format!(" ({id})"))
}

struct Node {
    client: Client,
    head: String,
    chunk: String,
    broken: String,
    id: String,
}

/// The last event of a node's log.
struct Head {
    /// 0 if there is none.
    position: i64,
    id: Option<Uuid>,
    /// How many events of its append are missing.
    missing: i32,
}

struct Chunk {
    count: i64,
    gap: Option<i64>,
    torn: Option<i64>,
    digest: Option<String>,
}

impl Node {
    fn new(client: Client, log: &LogName) -> Self {
        Self {
            client,
            head: put_into(log, include_str!("../../sql/head.sql")),
            chunk: put_into(log, include_str!("../../sql/chunk.sql")),
            broken: put_into(log, include_str!("../../sql/broken_streams.sql")),
            id: put_into(log, include_str!("../../sql/id.sql")),
        }
    }

    fn name(&self) -> String {
        format!("{} {}", self.client.role(), self.client.node())
    }

    async fn head(&self) -> Result<Head> {
        let row = self.client.query_opt(&self.head, &[]).await?;
        Ok(row.map_or(Head { position: 0, id: None, missing: 0 }, |row| Head {
            position: row.get(0),
            id: Some(row.get(1)),
            missing: row.get(2),
        }))
    }

    /// Where the node's log ends, once it has reached `position` or the time is up.
    async fn wait_for(&self, position: i64, until: Instant) -> Result<Head> {
        loop {
            let head = self.head().await?;
            if head.position >= position || Instant::now() >= until {
                return Ok(head);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn chunk(&self, after: i64, until: i64) -> Result<Chunk> {
        let row = self.client.query_one(&self.chunk, &[&after, &until]).await?;
        Ok(Chunk { count: row.get(0), gap: row.get(1), torn: row.get(2), digest: row.get(3) })
    }

    async fn broken_stream(&self, after: i64, until: i64) -> Result<Option<(i64, String, i64)>> {
        let params: [&(dyn ToSql + Sync); 2] = [&after, &until];
        let row = self.client.query_opt(&self.broken, &params).await?;
        Ok(row.map(|row| (row.get(0), row.get(1), row.get(2))))
    }

    async fn id(&self, position: i64) -> Result<Option<Uuid>> {
        Ok(self.client.query_opt(&self.id, &[&position]).await?.map(|row| row.get(0)))
    }
}
