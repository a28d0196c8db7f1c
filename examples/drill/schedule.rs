//! What breaks, when and for whom: lists that follow from a seed, with no clock, no server and no chance in them.
//!
//! What follows is up to the servers: the same seed gives the same faults, not the same history.

use std::{iter, time::Duration};

use crate::plan::Dice;

/// The lane of these dice: writers have the numbers from 0, others those from 1000 and 2000.
const LANE: u64 = 3000;

/// A fault that hits one session or lasts a moment, while everybody else keeps working.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Nuisance {
    /// Kills the session of an append in flight.
    AppendKilled,
    /// Kills any session on the primary.
    SessionKilled,
    /// Kills any session on the replica.
    ReplicaSessionKilled,
    /// Keeps a transaction that has written open in another database.
    OldTransaction,
}

/// A nuisance, and its time after the beginning.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Small {
    pub(crate) after: Duration,
    pub(crate) what: Nuisance,
    /// Which of the possible victims it hits, in order of their connection: a share from 0 up to but not including 1.
    pub(crate) victim: f64,
    /// How long the transaction is open.
    pub(crate) lasts: Duration,
}

/// A fault of a whole server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Blow {
    PrimaryKilled,
    PrimaryFrozen,
    ReplicaKilled,
    ReplicaFrozen,
}

/// A blow at this share of the run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Heavy {
    pub(crate) at: f64,
    pub(crate) what: Blow,
    /// How long the server is away, not counting its restart.
    pub(crate) lasts: Duration,
}

/// The blows of a run of writers lie between these shares: contention exists before the first, and enough time remains after the
/// last to see that work continues.
const BLOWS: std::ops::Range<f64> = 0.15..0.7;

/// Each additional period of this length brings one more blow, up to four.
const ROOM_FOR_A_BLOW: Duration = Duration::from_secs(6);

/// How a primary is lost in the drill `failover`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Loss {
    /// It is killed while commits wait for their standby; one of them is cancelled before.
    Killed,
    /// It is frozen, and thawed beside its successor.
    Frozen,
    /// Both it and its successor are killed, so that it is the only one that accepts writes.
    Alone,
}

/// How a node falls silent for a moment in the drill `silence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Silence {
    /// At the log-in: without a connection in the pool, and on the primary, which strong calls cannot avoid.
    LogIn,
    /// While idle.
    Idle,
    /// In the middle of an answer, after this many bytes of it.
    InAnAnswer(u64),
    /// Half-open, and eventually cut.
    HalfOpen,
}

/// What happens to a replica in the drill `causal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lag {
    StandsStill,
    FallsBehind,
    LosesItsSessions,
}

/// An endless sequence: a run of a known length takes as many as fit.
pub(crate) fn nuisances(seed: u64) -> impl Iterator<Item = Small> + Send {
    use Nuisance::{AppendKilled, OldTransaction, ReplicaSessionKilled, SessionKilled};
    // Each block of one second contains all of them, so that even the shortest run does.
    const BLOCK: [Nuisance; 10] = [
        AppendKilled,
        AppendKilled,
        AppendKilled,
        AppendKilled,
        AppendKilled,
        SessionKilled,
        SessionKilled,
        ReplicaSessionKilled,
        ReplicaSessionKilled,
        OldTransaction,
    ];
    let (mut dice, mut after) = (Dice::new(seed, LANE), Duration::ZERO);
    in_blocks(&BLOCK, Dice::new(seed, LANE + 1)).map(move |what| {
        after += Duration::from_millis(40 + dice.roll(140));
        let (victim, lasts) = (share(&mut dice), Duration::from_millis(1000 + dice.roll(4000)));
        Small { after, what, victim, lasts }
    })
}

/// In order of time. The primary is killed at least once.
pub(crate) fn blows(seed: u64, run: Duration) -> Vec<Heavy> {
    let mut dice = Dice::new(seed, LANE + 2);
    let amount = 1 + dice.roll((run.as_secs() / ROOM_FOR_A_BLOW.as_secs() + 1).min(4));
    let kill = dice.roll(amount);
    let part = (BLOWS.end - BLOWS.start) / amount as f64;
    let blow = |number: u64| {
        // In the first half of its part, so that there is a quiet time between any two.
        let at = BLOWS.start + part * (number as f64 + share(&mut dice) / 2.0);
        let what = match dice.roll(4) {
            _ if number == kill => Blow::PrimaryKilled,
            0 => Blow::PrimaryKilled,
            1 => Blow::PrimaryFrozen,
            2 => Blow::ReplicaKilled,
            _ => Blow::ReplicaFrozen,
        };
        Heavy { at, what, lasts: Duration::from_millis(100 + dice.roll(400)) }
    };
    (0..amount).map(blow).collect()
}

/// The two failovers of the drill `consume`: the share that has been written by then, and whether the most recently acknowledged
/// events are lost.
pub(crate) fn failovers(seed: u64) -> [(f64, bool); 2] {
    let mut dice = Dice::new(seed, LANE + 3);
    let is_first_lossy = dice.one_in(2);
    let first = 0.2 + share(&mut dice) * 0.15;
    // The first failover takes some time, during which others go on writing.
    let second = 0.5 + share(&mut dice) * 0.15;
    [(first, is_first_lossy), (second, !is_first_lossy)]
}

/// One for each round. Counted from the beginning, each block of three contains all of them.
pub(crate) fn losses(seed: u64) -> impl Iterator<Item = Loss> {
    in_blocks(&[Loss::Killed, Loss::Frozen, Loss::Alone], Dice::new(seed, LANE + 4))
}

/// One for each round, in blocks of all four.
pub(crate) fn silences(seed: u64) -> impl Iterator<Item = Silence> {
    let mut dice = Dice::new(seed, LANE + 6);
    let all = [Silence::LogIn, Silence::Idle, Silence::InAnAnswer(0), Silence::HalfOpen];
    in_blocks(&all, Dice::new(seed, LANE + 5)).map(move |silence| match silence {
        Silence::InAnAnswer(_) => Silence::InAnAnswer(dice.roll(100_000)),
        other => other,
    })
}

/// One after the other, in blocks of all three, each with the replica that it happens to.
pub(crate) fn lags(seed: u64, replicas: u64) -> impl Iterator<Item = (Lag, u64)> + Send {
    let mut dice = Dice::new(seed, LANE + 8);
    let all = [Lag::StandsStill, Lag::FallsBehind, Lag::LosesItsSessions];
    in_blocks(&all, Dice::new(seed, LANE + 7)).map(move |lag| (lag, dice.roll(replicas)))
}

/// One of `of`, for a drill that hurts only one of its replicas, or one of them first.
pub(crate) fn victim(seed: u64, of: u64) -> u64 {
    Dice::new(seed, LANE + 9).roll(of)
}

/// How the replicas of the drill `shield` are lost and come back, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outage {
    /// By number.
    pub(crate) lost: Vec<usize>,
    pub(crate) back: Vec<usize>,
    /// Between two losses, and between two returns.
    pub(crate) pauses: [Duration; 2],
}

pub(crate) fn outage(seed: u64, replicas: usize) -> Outage {
    let mut dice = Dice::new(seed, LANE + 11);
    let all: Vec<usize> = (0..replicas).collect();
    let (lost, back) = (shuffled(&all, &mut dice), shuffled(&all, &mut dice));
    // So short that losing one replica alone has no part of its own in the figures. Most outages have no pause at all.
    let pauses = [(); 2].map(|()| if dice.one_in(2) { Duration::ZERO } else { Duration::from_millis(dice.roll(300)) });
    Outage { lost, back, pauses }
}

/// How far each of two replicas lags in the drill `http`: at least a fifth of a second, and not the same on both.
#[cfg(any(feature = "tower", test))]
pub(crate) fn delays(seed: u64) -> [Duration; 2] {
    let mut dice = Dice::new(seed, LANE + 10);
    [(); 2].map(|()| Duration::from_millis(200 + dice.roll(60)))
}

/// The same items in another order.
pub(crate) fn shuffled<T: Copy>(of: &[T], dice: &mut Dice) -> Vec<T> {
    let mut all = of.to_vec();
    for last in (1..all.len()).rev() {
        let other = usize::try_from(dice.roll(last as u64 + 1)).unwrap_or_default();
        all.swap(last, other);
    }
    all
}

/// All items in some order, then all of them again in another: none is missing for long.
pub(crate) fn in_blocks<T: Copy + Send>(of: &[T], mut dice: Dice) -> impl Iterator<Item = T> + Send + use<T> {
    let of = of.to_vec();
    iter::repeat_with(move || shuffled(&of, &mut dice)).flatten()
}

/// From 0 up to but not including 1.
fn share(dice: &mut Dice) -> f64 {
    const STEPS: u64 = 1 << 32;
    dice.roll(STEPS) as f64 / STEPS as f64
}

#[cfg(test)]
mod tests;
