//! `mainstem verify`.

use std::time::Duration;

use clap::Args;
use mainstem::{Client, LogName, tokio_postgres::types::ToSql};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    failure::{BROKEN_PIPE, FAULTS, Failure, Result},
    nodes::{Nodes, Reached, put_into, reach},
    output::{self, Output},
};

/// Check that the log is complete, and the same on every node
///
/// On the primary: positions are 1, 2, 3 … without a gap, every append is complete, and every stream
/// has the versions 1, 2, 3 … in the order of the log. Each replica must have the same events as the
/// primary, compared by digests of their whole content. A replica that lags is waited for, for at
/// most --timeout, and then compared as far as it is.
///
/// Reads the whole log on every node, and writes nothing. Prints a line for each node and for each
/// fault. The exit status is 20 if there are faults, and 1 if a node could not be checked.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct VerifyArgs {
    /// Begin after this position
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    after: u64,
    /// Check this many events at a time. With a larger chunk a statement may exceed --timeout; a smaller one slows the check down
    #[arg(long, value_name = "EVENTS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    chunk: u64,
}

pub(crate) async fn run(args: VerifyArgs, nodes: Nodes, log: LogName) -> Result<()> {
    let router = nodes.connect().await?;
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
    let checked = check(&args, &nodes, &primary, &replicas, &mut unseen, &mut faults).await;
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

/// A replica, as far as it was compared.
struct Compared<'a> {
    replica: &'a Node,
    end: i64,
    differs: bool,
}

async fn check(
    args: &VerifyArgs,
    nodes: &Nodes,
    primary: &Node,
    replicas: &[Node],
    unseen: &mut Vec<String>,
    faults: &mut Faults,
) -> Result<()> {
    let head = primary.head().await?;
    let begin = i64::try_from(args.after).unwrap_or(i64::MAX).min(head.0);
    if head.2 != 0 {
        faults.add(primary, &format!("the log ends within an append: {} of its events are missing", head.2))?;
    }
    let waited = Instant::now() + nodes.limit();
    let mut compared = Vec::with_capacity(replicas.len());
    for replica in replicas {
        match replica.wait_for(head.0, waited).await {
            Ok(end) => compared.push(Compared { replica, end, differs: false }),
            Err(error) => unseen.push(format!("{}: not checked: {}", replica.name(), error.message)),
        }
    }
    let steps = args.chunk.cast_signed();
    let bar = output::progress((head.0 - begin).cast_unsigned(), "events");
    let mut from = begin;
    while from < head.0 {
        let until = from.saturating_add(steps).min(head.0);
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
        head.0 - begin,
        head.0,
        shown(head.1)
    ))?;
    for Compared { replica, end, differs } in compared {
        // Events beyond the head that the primary had at the beginning were added since.
        let end = end.min(head.0).max(begin);
        let lag = if end < head.0 { format!("; it is {} events behind", head.0 - end) } else { String::new() };
        let is = if differs { "is not a prefix of the primary's log" } else { "the same as the primary" };
        output.line(format!("{}: {is}, up to position {end}{lag}", replica.name()))?;
    }
    for line in unseen.iter() {
        output.line(line)?;
    }
    output.flush()
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
    let shown = |id: Option<Uuid>| id.map_or_else(|| "no event".to_owned(), |id| format!("event {id}"));
    Ok(Some(match here == there {
        true => format!("at position {not} the {} differs from the primary's", shown(here)),
        false => format!("position {not} has {}, and {} on the primary", shown(there), shown(here)),
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

    /// Position and id of the last event, and how many events of its append are missing.
    async fn head(&self) -> Result<(i64, Option<Uuid>, i32)> {
        let row = self.client.query_opt(&self.head, &[]).await?;
        Ok(row.map_or((0, None, 0), |row| (row.get(0), Some(row.get(1)), row.get(2))))
    }

    /// The position where the node's log ends, once it has reached `position` or the time is up.
    async fn wait_for(&self, position: i64, until: Instant) -> Result<i64> {
        loop {
            let head = self.head().await?.0;
            if head >= position || Instant::now() >= until {
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
