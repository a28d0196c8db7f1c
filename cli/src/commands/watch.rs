//! `mainstem watch`.

use std::{collections::HashMap, fmt::Write as _, io::IsTerminal, sync::Arc, time::Duration};

use clap::Args;
use mainstem::{Client, NodeCondition, NodeStatus, PrimaryState, Router, RouterStatus};
use tokio::time::{Instant, sleep, timeout};

use crate::{failure::Result, interrupt::Interrupt, nodes::Nodes, output::Output};

/// Show the state of the nodes: roles, timelines, lag, load, and which are out of service and why
///
/// On a terminal the display is refreshed until Ctrl-C; elsewhere it is printed once per interval, as
/// lines.
///
/// For each node: its role, whether it serves or why not, its timeline and lag, the active sessions
/// in this database (ACTIVE), the time of one small query from here (LATENCY), its transactions per
/// second in this database (TX/S), and their share of those on all nodes (SHARE). Sessions and
/// transactions are those of all applications, not of this program alone.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct WatchArgs {
    /// Print the state once, and end
    #[arg(long)]
    once: bool,
    /// Time between two updates
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = interval)]
    interval: f64,
}

fn interval(text: &str) -> Result<f64, String> {
    let seconds = text.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    if (0.1..=3600.0).contains(&seconds) { Ok(seconds) } else { Err("it must be between 0.1 and 3600 s".into()) }
}

/// Enters the alternate screen, without line wrapping and cursor; and leaves it.
const ENTER: &str = "\x1b[?1049h\x1b[?7l\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?7h\x1b[?1049l";
/// Moves to the top; and clears what the previous picture left after a line or below the last one.
const TOP: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_REST: &str = "\x1b[J";

pub(crate) async fn run(args: WatchArgs, nodes: Nodes, interrupt: &Interrupt) -> Result<()> {
    let pause = Duration::from_secs_f64(args.interval);
    let router = nodes.builder()?.build()?;
    let mut output = Output::stdout();
    let is_live = !args.once && std::io::stdout().is_terminal();
    if is_live {
        output.text(ENTER)?;
    }
    let mut watch = Watch { router, clients: HashMap::new(), before: HashMap::new() };
    let outcome = loop {
        let picture = tokio::select! {
            biased;
            () = interrupt.come() => break Ok(()),
            picture = watch.picture(pause) => picture,
        };
        let written = match is_live {
            true => output
                .text(TOP)
                .and_then(|()| output.text(&picture.replace('\n', &format!("{CLEAR_LINE}\n"))))
                .and_then(|()| output.text(CLEAR_REST)),
            false => output.text(&picture),
        };
        if let Err(failure) = written.and_then(|()| output.flush()) {
            break Err(failure);
        }
        if args.once {
            break Ok(());
        }
    };
    if is_live {
        output.text(LEAVE)?;
    }
    let flushed = output.flush();
    outcome.and(flushed)
}

/// The load of a node.
#[derive(Clone, Copy, Debug)]
struct Load {
    active: i64,
    latency: Duration,
    per_second: Option<f64>,
}

struct Watch {
    router: Router,
    clients: HashMap<Arc<str>, Client>,
    /// The transactions so far, and when they were counted.
    before: HashMap<Arc<str>, (i64, Instant)>,
}

impl Watch {
    /// The picture after `pause`, during which transactions are counted.
    async fn picture(&mut self, pause: Duration) -> String {
        if self.before.is_empty() {
            self.loads().await;
        }
        sleep(pause).await;
        let loads = self.loads().await;
        picture(&self.router.status(), &loads)
    }

    async fn loads(&mut self) -> HashMap<Arc<str>, Load> {
        let status = self.router.status();
        for node in &status.nodes {
            if !self.clients.contains_key(&node.name)
                && let Ok(client) = self.router.client_on(&node.name).await
            {
                self.clients.insert(Arc::clone(&node.name), client);
            }
        }
        let mut loads = HashMap::new();
        for node in &status.nodes {
            let Some(client) = self.clients.get(&node.name) else { continue };
            let began = Instant::now();
            let asked = client.query_one(include_str!("../../sql/load.sql"), &[]);
            let Ok(Ok(row)) = timeout(Duration::from_secs(2), asked).await else {
                self.clients.remove(&node.name);
                self.before.remove(&node.name);
                continue;
            };
            let (now, transactions) = (Instant::now(), row.get::<_, i64>(0));
            let before = self.before.insert(Arc::clone(&node.name), (transactions, now));
            let per_second = before.map(|(before, at)| {
                let (more, seconds) =
                    (transactions.saturating_sub(before).max(0), now.duration_since(at).as_secs_f64());
                #[expect(clippy::cast_precision_loss, reason = "for people")]
                let more = more as f64;
                more / seconds.max(0.001)
            });
            loads.insert(
                Arc::clone(&node.name),
                Load { active: row.get(1), latency: now.duration_since(began), per_second },
            );
        }
        loads
    }
}

fn picture(status: &RouterStatus, loads: &HashMap<Arc<str>, Load>) -> String {
    let mut text = match &status.primary {
        PrimaryState::Known { node, .. } => format!("primary {node}"),
        PrimaryState::SplitBrain { nodes, .. } => format!("SPLIT BRAIN: {} both take writes", nodes.join(" and ")),
        PrimaryState::Fenced { node, .. } => {
            format!("NO PRIMARY: {node} takes writes, but was replaced by an unknown node")
        }
        _ => "NO PRIMARY: no node takes writes".to_owned(),
    };
    if let Some(timeline) = status.timeline {
        let _ = write!(text, ", timeline {timeline}");
    }
    let total: f64 = loads.values().filter_map(|load| load.per_second).sum();
    let width = status.nodes.iter().map(|node| node.name.len()).max().unwrap_or(0).max(4);
    let _ = writeln!(
        text,
        "\n{:width$}  {:8}{:>9}{:>10}{:>12}{:>8}{:>10}{:>9}{:>7}  STATE",
        "NODE", "ROLE", "TIMELINE", "LAG", "LAG BYTES", "ACTIVE", "LATENCY", "TX/S", "SHARE"
    );
    let shown = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    for node in &status.nodes {
        let load = loads.get(&node.name);
        let share = |rate: f64| if total > 0.0 { format!("{:.0} %", 100.0 * rate / total) } else { "-".to_owned() };
        let _ = writeln!(
            text,
            "{:width$}  {:8}{:>9}{:>10}{:>12}{:>8}{:>10}{:>9}{:>7}  {}",
            node.name,
            node.role.to_string(),
            shown(node.timeline.map(|it| it.to_string())),
            shown(node.lag.map(time)),
            shown(node.lag_bytes.map(|it| it.to_string())),
            shown(load.map(|load| load.active.to_string())),
            shown(load.map(|load| time(load.latency))),
            shown(load.and_then(|load| load.per_second).map(|it| format!("{it:.1}"))),
            shown(load.and_then(|load| load.per_second).map(share)),
            state(node),
        );
    }
    text
}

fn state(node: &NodeStatus) -> String {
    match node.condition {
        NodeCondition::Serving => "serves".into(),
        NodeCondition::SlowStart => "serves, its share is growing".into(),
        NodeCondition::Ejected { cause, elapsed, .. } => format!("OUT for {}: {cause}", time(elapsed)),
        NodeCondition::Foreign => "OUT: belongs to another cluster".into(),
        NodeCondition::Fenced => "OUT: takes writes, but is not the primary".into(),
        NodeCondition::Lagging => "OUT: too far behind".into(),
        NodeCondition::OlderTimeline => "OUT: did not follow the last failover".into(),
        _ => "?".into(),
    }
}

fn time(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{:.1} ms", time.as_secs_f64() * 1000.0),
        1..60 => format!("{:.1} s", time.as_secs_f64()),
        minutes => format!("{} min", minutes / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let shown = |millis| time(Duration::from_millis(millis));
        assert_eq!([shown(0), shown(12), shown(1500), shown(61_000)], ["0.0 ms", "12.0 ms", "1.5 s", "1 min"]);
    }
}
