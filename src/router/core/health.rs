//! When a node is taken out of service, and when it comes back.

use std::{fmt, time::Duration};

use super::{observation::ConnectFailure, random::Random};

/// This many consecutive calls or probes without an answer mean that the node is gone. A single call may only have
/// taken longer than its limit.
const SILENT_IN_A_ROW: u32 = 3;

/// This many calls must have failed in a [window](WINDOW), and more than were answered, to make a node an outlier.
const FAILED_CALLS: u32 = 5;
const WINDOW: Duration = Duration::from_secs(10);

/// The first pause of a node that cannot be reached: long enough to spare a restarting server a storm of connects,
/// short enough to go unnoticed. For a node that answers with errors: long enough for the cause to pass.
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(100);
const FAILING_PAUSE: Duration = Duration::from_secs(1);

/// The longest pauses: the most that a recovered node waits until it is used again. An unreachable node is checked by
/// probes, which cost a packet: with this pause, its jitter and a probe's own duration, it serves within a second of
/// its return, however often it was gone.
const LONGEST_UNREACHABLE: Duration = Duration::from_millis(500);
const LONGEST_FAILING: Duration = Duration::from_secs(30);

/// A node that was in service for this long starts with the first pause again.
const FORGIVEN_AFTER: Duration = Duration::from_secs(10);

/// The reason why a node was taken out of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EjectionCause {
    /// Most of its calls fail: it loses connections, or cancels queries.
    Failing,
    /// It accepts calls but answers none.
    Silent,
    /// No connection to it can be opened.
    Unreachable,
    /// It answers but refuses every login: too many clients, a wrong password, a start-up that is not complete.
    Refusing,
}

impl From<ConnectFailure> for EjectionCause {
    fn from(failure: ConnectFailure) -> Self {
        match failure {
            ConnectFailure::Refused => Self::Refusing,
            ConnectFailure::NobodyListens | ConnectFailure::NoAnswer => Self::Unreachable,
        }
    }
}

impl EjectionCause {
    /// Whether the node certainly cannot serve, so that keeping it in service helps nobody.
    pub(super) fn is_certain(self) -> bool {
        self != Self::Failing
    }
}

impl fmt::Display for EjectionCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Failing => "most of its calls fail",
            Self::Silent => "it does not answer",
            Self::Unreachable => "it cannot be reached",
            Self::Refusing => "it refuses connections",
        })
    }
}

/// A period out of service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ejection {
    pub(super) cause: EjectionCause,
    pub(super) since: Duration,
    /// It does not come back earlier, whatever it answers.
    pub(super) until: Duration,
    /// When a call may try it, if nothing else has found out its state.
    pub(super) trial_from: Duration,
    /// Failed attempts to reach it again.
    failed: u32,
}

#[derive(Debug, Default)]
pub(super) struct Health {
    ejection: Option<Ejection>,
    /// Ejections in quick succession.
    strikes: u32,
    /// When it last came back into service.
    admitted_at: Option<Duration>,
    silent: Streak,
    failed: Window,
}

/// Consecutive events without an answer in between.
#[derive(Debug, Default)]
struct Streak {
    length: u32,
    answers: u32,
}

#[derive(Debug, Default)]
struct Window {
    since: Duration,
    failed: u32,
    served: u32,
}

impl Health {
    pub(super) fn ejection(&self) -> Option<&Ejection> {
        self.ejection.as_ref()
    }

    /// When it came back into service, if it was ever out of it.
    pub(super) fn admitted_at(&self) -> Option<Duration> {
        self.admitted_at
    }

    /// One more call or probe timed out without an answer; `answers` is how many answers the node has given to others
    /// so far. Returns whether that was one too many.
    pub(super) fn was_silent(&mut self, answers: u32) -> bool {
        if self.silent.answers != answers {
            self.silent = Streak { length: 0, answers };
        }
        self.silent.length += 1;
        self.silent.length >= SILENT_IN_A_ROW
    }

    /// One more call failed through the node's fault; `served` is how many calls it has served so far. Returns whether
    /// that was one too many. (Answers to probes do not count in its favour: probes request nothing that could
    /// conflict.)
    pub(super) fn call_failed(&mut self, served: u32, now: Duration) -> bool {
        let window = &mut self.failed;
        if window.failed == 0 || now.saturating_sub(window.since) > WINDOW {
            *window = Window { since: now, failed: 0, served };
        }
        window.failed += 1;
        window.failed >= FAILED_CALLS && window.failed > served.wrapping_sub(window.served)
    }

    /// Takes the node out of service, or notes that it is still out. Counts once per outage: a hundred calls that fail
    /// on one dead node are one failure. `patience` is how long only probes may try it before a call may.
    pub(super) fn eject(&mut self, cause: EjectionCause, now: Duration, patience: Duration, random: &mut Random) {
        if let Some(ejection) = &mut self.ejection {
            // Calls that were in flight say nothing new. But an attempt after the pause has failed.
            if now >= ejection.until {
                if cause.is_certain() {
                    ejection.cause = cause;
                }
                ejection.failed += 1;
                ejection.trial_from =
                    now.saturating_add(patience).saturating_add(pause(cause, ejection.failed, random));
            }
            return;
        }
        if self.admitted_at.is_none_or(|at| now.saturating_sub(at) >= FORGIVEN_AFTER) {
            self.strikes = 0;
        }
        let until = now.saturating_add(pause(cause, self.strikes, random));
        self.strikes += 1;
        self.ejection =
            Some(Ejection { cause, since: now, until, trial_from: until.saturating_add(patience), failed: 0 });
    }

    /// The node has answered. Returns whether that brings it back into service.
    pub(super) fn answered(&mut self, now: Duration) -> bool {
        self.silent.length = 0;
        if flawed!(NeverReadmit) || self.ejection.is_none_or(|ejection| now < ejection.until) {
            return false;
        }
        self.admit(now);
        true
    }

    /// Brings it back without proof.
    pub(super) fn admit(&mut self, now: Duration) {
        self.ejection = None;
        self.admitted_at = Some(now);
        self.silent.length = 0;
        self.failed = Window::default();
    }

    /// When to probe it again: often while it is out of service, since users wait for it.
    pub(super) fn probe_pause(&self, interval: Duration) -> Duration {
        let Some(ejection) = self.ejection else { return interval };
        interval.min(UNREACHABLE_PAUSE.saturating_mul(1 << ejection.failed.min(8))).min(LONGEST_UNREACHABLE)
    }
}

/// Grows with each repetition, up to the maximum, plus up to a quarter at random: routers that lost a node together do
/// not come back to it together.
fn pause(cause: EjectionCause, repetition: u32, random: &mut Random) -> Duration {
    let (first, longest) = match cause {
        EjectionCause::Failing => (FAILING_PAUSE, LONGEST_FAILING),
        EjectionCause::Silent | EjectionCause::Unreachable | EjectionCause::Refusing => {
            (UNREACHABLE_PAUSE, LONGEST_UNREACHABLE)
        }
    };
    let pause = first.saturating_mul(1 << repetition.min(16)).min(longest);
    pause + pause * (random.below(256) as u32) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn eject(health: &mut Health, now: Duration) -> Duration {
        health.eject(EjectionCause::Unreachable, now, Duration::ZERO, &mut Random::new(1));
        health.ejection().unwrap().until - now
    }

    #[test]
    fn a_flapping_node_rests_longer_each_time_and_one_that_holds_is_forgiven() {
        let (mut health, mut now, mut last) = (Health::default(), Duration::from_secs(60), Duration::ZERO);
        for _ in 0..20 {
            let pause = eject(&mut health, now);
            // The same outage, reported twice.
            assert_eq!(eject(&mut health, now), pause);
            assert!(pause * 5 / 4 >= last && pause <= LONGEST_UNREACHABLE * 5 / 4, "{pause:?} after {last:?}");
            assert!(!health.answered(now + pause - MS), "an answer does not shorten it");
            (last, now) = (pause, now + pause);
            assert!(health.answered(now));
        }
        assert!(last >= LONGEST_UNREACHABLE && last <= Duration::from_millis(625), "{last:?}");
        assert!(eject(&mut health, now + FORGIVEN_AFTER) < 2 * UNREACHABLE_PAUSE);
    }

    #[test]
    fn only_silence_without_an_answer_in_between_counts() {
        let mut health = Health::default();
        let told: Vec<bool> = [1, 1, 2, 2, 2].map(|answers| health.was_silent(answers)).into();
        assert_eq!(told, [false, false, false, false, true]);
    }

    #[test]
    fn only_more_failures_than_answers_make_an_outlier() {
        let failing = |answers_between: u32| {
            let mut health = Health::default();
            (0..50).any(|call| health.call_failed(call * answers_between, MS * call))
        };
        assert_eq!([0, 1, 2].map(failing), [true, true, false]);
        let mut health = Health::default();
        assert!(!(0..50).any(|call| health.call_failed(0, WINDOW * call)), "one in a while is none");
    }
}
