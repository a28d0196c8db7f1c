//! `mainstem verify`.

use std::time::Duration;

use clap::Args;
use mainstem::{Client, LogName, tokio_postgres::types::ToSql};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    failure::{FAULTS, Failure, Result},
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
    let mut output = Output::stdout();
    let head = primary.head().await?;
    let begin = i64::try_from(args.after).unwrap_or(i64::MAX).min(head.0);
    let mut faults = 0;
    let mut fault = |output: &mut Output, node: &Node, what: String| {
        faults += 1;
        output.line(format!("{}: FAULT: {what}", node.name()))
    };
    if head.2 != 0 {
        fault(&mut output, &primary, format!("the log ends within an append: {} of its events are missing", head.2))?;
    }
    let waited = Instant::now() + nodes.limit();
    let mut ends = Vec::with_capacity(replicas.len());
    for replica in &replicas {
        ends.push(replica.wait_for(head.0, waited).await?);
    }
    let steps = args.chunk.cast_signed();
    let bar = output::progress((head.0 - begin).cast_unsigned(), "events");
    let mut differ = vec![false; replicas.len()];
    let mut from = begin;
    while from < head.0 {
        let until = from.saturating_add(steps).min(head.0);
        let ours = primary.chunk(from, until).await?;
        if let Some(position) = ours.gap {
            fault(
                &mut output,
                &primary,
                format!("there is a gap: position {} has no event, but position {position} has one", position - 1),
            )?;
        } else if ours.count != until - from {
            fault(&mut output, &primary, format!("events are missing after position {}", from + ours.count))?;
        }
        if let Some(position) = ours.torn {
            fault(&mut output, &primary, format!("the append before position {position} is incomplete"))?;
        }
        if let Some((position, stream, version)) = primary.broken_stream(from, until).await? {
            let what = format!(
                "position {position} has version {version} of the stream {stream:?}, but the version before it is missing"
            );
            fault(&mut output, &primary, what)?;
        }
        for ((replica, end), differs) in replicas.iter().zip(&ends).zip(&mut differ) {
            let until = until.min(*end);
            if *differs || until <= from {
                continue;
            }
            let compared = async |from: i64, until: i64| -> Result<bool> {
                Ok(primary.chunk(from, until).await?.digest == replica.chunk(from, until).await?.digest)
            };
            if !compared(from, until).await? {
                // Find the first event that differs: all up to `same` are equal.
                let (mut same, mut not) = (from, until);
                while not - same > 1 {
                    let middle = same + (not - same) / 2;
                    if compared(same, middle).await? { same = middle } else { not = middle }
                }
                *differs = true;
                let (here, there) = (primary.id(not).await?, replica.id(not).await?);
                let shown = |id: Option<Uuid>| id.map_or_else(|| "no event".to_owned(), |id| format!("event {id}"));
                let what = match here == there {
                    true => format!("at position {not} the {} differs from the primary's", shown(here)),
                    false => format!("position {not} has {}, and {} on the primary", shown(there), shown(here)),
                };
                fault(&mut output, replica, what)?;
            }
        }
        bar.set_position((until - begin).cast_unsigned());
        from = until;
    }
    bar.finish_and_clear();
    output.line(format!(
        "{}: {} events, up to position {}{}",
        primary.name(),
        head.0 - begin,
        head.0,
        shown(head.1)
    ))?;
    for ((replica, end), differs) in replicas.iter().zip(ends).zip(differ) {
        // Events beyond the head that the primary had at the beginning were added since.
        let end = end.min(head.0).max(begin);
        let lag = if end < head.0 { format!("; it is {} events behind", head.0 - end) } else { String::new() };
        let is = if differs { "is not a prefix of the primary's log" } else { "the same as the primary" };
        output.line(format!("{}: {is}, up to position {end}{lag}", replica.name()))?;
    }
    for line in &unseen {
        output.line(line)?;
    }
    output.flush()?;
    match (faults, unseen.len()) {
        (0, 0) => Ok(()),
        (0, 1) => Err(Failure::failed("one node was not checked")),
        (0, more) => Err(Failure::failed(format!("{more} nodes were not checked"))),
        (1, _) => Err(Failure::new(FAULTS, "one fault was found")),
        (faults, _) => Err(Failure::new(FAULTS, format!("{faults} faults were found"))),
    }
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
