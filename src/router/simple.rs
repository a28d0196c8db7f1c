//! The choice that the router makes until it is wired to `core`.

use std::time::Duration;

use super::Role;

/// What the caller can live with, as far as choosing a node goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    Primary,
    AnyReplica,
}

/// Why a node was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The level asks for the primary.
    Primary,
    /// A replica that is up.
    Replica,
    /// No replica is left, so the primary has to serve.
    Fallback,
    /// Everything that is up was tried: perhaps a node that was down is back.
    LastResort,
}

/// What happened on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Observation {
    Answered,
    Failed,
}

/// A choice and its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) node: usize,
    pub(super) reason: Reason,
}

/// The state of all nodes.
#[derive(Debug)]
pub(super) struct Core {
    nodes: Vec<NodeState>,
}

#[derive(Debug)]
struct NodeState {
    role: Role,
    health: Health,
}

impl Core {
    pub(super) fn new(roles: impl IntoIterator<Item = Role>) -> Self {
        let nodes = roles.into_iter().map(|role| NodeState { role, health: Health::default() });
        Self { nodes: nodes.collect() }
    }

    /// Takes in what happened. `now` is the time since any fixed moment.
    pub(super) fn observe(&mut self, node: usize, observation: Observation, now: Duration) {
        let Some(node) = self.nodes.get_mut(node) else { return };
        match observation {
            Observation::Answered => node.health.succeed(),
            Observation::Failed => node.health.fail(now),
        }
    }

    /// Whether a node is believed to be up.
    pub(super) fn is_up(&self, node: usize, now: Duration) -> bool {
        self.nodes.get(node).is_some_and(|node| node.health.is_up(now))
    }

    /// The next node to try, given those that this call has tried already, or `None` when all were.
    ///
    /// `load` is the number of calls that a node serves at this moment and `random` any number: of two replicas picked
    /// at random the less loaded one is taken. Random alone piles up on one, and least-loaded alone sends every
    /// caller to the node that just came back (Mitzenmacher, The Power of Two Choices, 1996).
    pub(super) fn choose(
        &self,
        want: Want,
        tried: &[usize],
        load: impl Fn(usize) -> usize,
        random: u64,
        now: Duration,
    ) -> Option<Choice> {
        let open = |role: Role| {
            let nodes = self.nodes.iter().enumerate();
            nodes.filter(move |(index, node)| node.role == role && !tried.contains(index))
        };
        let primary = open(Role::Primary).map(|(index, _)| index).next();
        if want == Want::Primary {
            // Never a replica, and never refused because of an old failure: there is nobody else to ask.
            return primary.map(|node| Choice { node, reason: Reason::Primary });
        }
        let up = open(Role::Replica).filter(|(_, node)| node.health.is_up(now)).map(|(index, _)| index);
        let replica = less_loaded_of_two(&up.collect::<Vec<_>>(), load, random);
        let replica = replica.map(|node| Choice { node, reason: Reason::Replica });
        let fallback = || {
            let primary = primary.filter(|&node| self.is_up(node, now));
            primary.map(|node| Choice { node, reason: Reason::Fallback })
        };
        let last_resort = || {
            let down = open(Role::Replica).map(|(index, _)| index).next();
            down.or(primary).map(|node| Choice { node, reason: Reason::LastResort })
        };
        replica.or_else(fallback).or_else(last_resort)
    }
}

fn less_loaded_of_two(nodes: &[usize], load: impl Fn(usize) -> usize, random: u64) -> Option<usize> {
    let count = nodes.len() as u64;
    if count == 0 {
        return None;
    }
    let first = (random % count) as usize;
    // The second is another one, so that two nodes are always compared with each other.
    let step = 1 + (random / count) % (count - 1).max(1);
    let second = ((first as u64 + step) % count) as usize;
    let (first, second) = (nodes[first], nodes[second]);
    Some(if load(second) < load(first) { second } else { first })
}

/// The first pause after a failure: long enough to spare a restarting server a storm of connects, short enough that
/// nobody notices it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause: what a recovered node waits at most until it is used again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Failures in a row, and the pause that follows them.
#[derive(Debug, Default)]
struct Health {
    failures: u32,
    down_until: Option<Duration>,
}

impl Health {
    fn succeed(&mut self) {
        *self = Self::default();
    }

    /// Counts once per pause: a hundred calls that fail on one dead node are one failure of it.
    fn fail(&mut self, now: Duration) {
        if self.down_until.is_some_and(|until| now < until) {
            return;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE);
        self.failures += 1;
        self.down_until = Some(now + pause);
    }

    fn is_up(&self, now: Duration) -> bool {
        self.down_until.is_none_or(|until| now >= until)
    }
}
