//! The proxy's orders, and what they mean for the data at hand. No I/O, and no clock: the caller supplies the time.

use std::time::{Duration, Instant};

use super::{Direction, ProxyCounts};

/// How often a throttled lane sends what is due: any finer would need a timer for every few bytes.
const BURSTS_PER_SECOND: u64 = 50;

/// One of the two directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    ToServer,
    ToClient,
}

impl Way {
    pub(super) fn back(self) -> Self {
        match self {
            Self::ToServer => Self::ToClient,
            Self::ToClient => Self::ToServer,
        }
    }
}

/// Whether data that has arrived may be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// This many bytes of it.
    Now(usize),
    /// Not before this moment: ask again then.
    At(Instant),
    /// Not before a new order.
    OnChange,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    lanes: [Lane; 2],
    /// How many bytes of answers still pass before everything falls silent.
    before_silence: Option<u64>,
    /// How often the connections were cut: those from before a cut have ended.
    pub(super) cuts: u64,
    pub(super) counts: ProxyCounts,
}

#[derive(Debug, Default)]
struct Lane {
    delay: Duration,
    rate: Option<Rate>,
    is_silent: bool,
}

/// A bucket that fills with time.
#[derive(Debug)]
struct Rate {
    per_second: u64,
    credit: f64,
    at: Instant,
}

impl Faults {
    pub(super) fn delay(&mut self, direction: Direction, delay: Duration) {
        self.each(direction, |lane| lane.delay = delay);
    }

    pub(super) fn throttle(&mut self, direction: Direction, per_second: u64, now: Instant) {
        self.each(direction, |lane| lane.rate = Some(Rate { per_second, credit: 0.0, at: now }));
    }

    pub(super) fn silence(&mut self, direction: Direction) {
        self.each(direction, |lane| lane.is_silent = true);
    }

    pub(super) fn silence_after(&mut self, bytes: u64) {
        self.before_silence = Some(bytes);
        self.look_at_the_end();
    }

    /// Ends every fault, but keeps the counts.
    pub(super) fn restore(&mut self) {
        self.lanes = Default::default();
        self.before_silence = None;
    }

    /// How many of `bytes` bytes that arrived at `arrived` may be forwarded at `now`. The end of a connection has none,
    /// and asks too.
    pub(super) fn leave(&mut self, way: Way, arrived: Instant, bytes: usize, now: Instant) -> Leave {
        let lane = &mut self.lanes[way as usize];
        if lane.is_silent {
            return Leave::OnChange;
        }
        // Judged by the present delay, and only for the first in the queue: so nothing overtakes when the delay
        // changes.
        match arrived.checked_add(lane.delay) {
            None => return Leave::OnChange,
            Some(due) if now < due => return Leave::At(due),
            Some(_) => {}
        }
        let allowed = match &mut lane.rate {
            Some(rate) if bytes > 0 => match rate.allow(bytes, now) {
                Leave::Now(allowed) => allowed,
                later => return later,
            },
            _ => bytes,
        };
        match self.before_silence {
            Some(left) if way == Way::ToClient => {
                Leave::Now(usize::try_from(left).map_or(allowed, |left| left.min(allowed)))
            }
            _ => Leave::Now(allowed),
        }
    }

    /// This many bytes were forwarded.
    pub(super) fn left(&mut self, way: Way, bytes: usize) {
        let count = match way {
            Way::ToServer => &mut self.counts.bytes_to_server,
            Way::ToClient => &mut self.counts.bytes_to_client,
        };
        *count += bytes as u64;
        if let Some(rate) = &mut self.lanes[way as usize].rate {
            rate.credit -= bytes as f64;
        }
        if way == Way::ToClient
            && let Some(left) = &mut self.before_silence
        {
            *left = left.saturating_sub(bytes as u64);
            self.look_at_the_end();
        }
    }

    pub(super) fn is_silent(&self, way: Way) -> bool {
        self.lanes[way as usize].is_silent
    }

    fn look_at_the_end(&mut self) {
        if self.before_silence == Some(0) {
            self.before_silence = None;
            self.silence(Direction::Both);
        }
    }

    fn each(&mut self, direction: Direction, mut change: impl FnMut(&mut Lane)) {
        let [to_server, to_client] = &mut self.lanes;
        if direction != Direction::ToClient {
            change(to_server);
        }
        if direction != Direction::ToServer {
            change(to_client);
        }
    }
}

impl Rate {
    /// Waits for a burst's worth of bytes, or for all of them if there are fewer.
    fn allow(&mut self, bytes: usize, now: Instant) -> Leave {
        if self.per_second == 0 {
            return Leave::OnChange;
        }
        let (rate, burst) = (self.per_second as f64, (self.per_second / BURSTS_PER_SECOND).max(1));
        let elapsed = now.saturating_duration_since(self.at);
        self.credit = (self.credit + elapsed.as_secs_f64() * rate).min(burst as f64);
        self.at = now;
        let wanted = usize::try_from(burst).map_or(bytes, |burst| burst.min(bytes));
        let missing = wanted as f64 - self.credit;
        // A fraction of a byte comes from rounding the wait for it.
        if missing < 0.01 {
            return Leave::Now(wanted);
        }
        Leave::At(now + Duration::from_secs_f64(missing / rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_delay_is_counted_from_the_arrival_and_may_change_on_the_way() {
        let (mut faults, start) = (Faults::default(), Instant::now());
        faults.delay(Direction::ToServer, 100 * MS);
        let ask = |faults: &mut Faults, way, after| faults.leave(way, start, 5, start + after);
        assert_eq!(ask(&mut faults, Way::ToClient, Duration::ZERO), Leave::Now(5));
        assert_eq!(ask(&mut faults, Way::ToServer, 40 * MS), Leave::At(start + 100 * MS));
        assert_eq!(ask(&mut faults, Way::ToServer, 100 * MS), Leave::Now(5));
        faults.delay(Direction::Both, Duration::MAX);
        assert_eq!(ask(&mut faults, Way::ToServer, 100 * MS), Leave::OnChange);
    }

    #[test]
    fn all_connections_together_get_the_rate_and_no_more() {
        for rate in [1, 30, 1000, 1_000_000] {
            let (mut faults, start) = (Faults::default(), Instant::now());
            faults.throttle(Direction::ToClient, rate, start);
            let (mut now, mut sent) = (start, 0);
            while now < start + 10_000 * MS {
                match faults.leave(Way::ToClient, start, 700, now) {
                    Leave::Now(bytes) => {
                        faults.left(Way::ToClient, bytes);
                        sent += bytes as u64;
                    }
                    Leave::At(at) => now = at + Duration::from_nanos(1),
                    Leave::OnChange => panic!("it waits for ever"),
                }
            }
            assert!(sent <= 10 * rate + rate / 50 + 1 && sent + rate / 2 >= 9 * rate, "{sent} in 10 s at {rate}/s");
        }
        let mut faults = Faults::default();
        faults.throttle(Direction::Both, 0, Instant::now());
        assert_eq!(faults.leave(Way::ToServer, Instant::now(), 1, Instant::now()), Leave::OnChange);
    }

    #[test]
    fn an_idle_throttle_saves_nothing_up() {
        let (mut faults, start) = (Faults::default(), Instant::now());
        faults.throttle(Direction::ToServer, 1000, start);
        assert_eq!(faults.leave(Way::ToServer, start, 500, start + 60_000 * MS), Leave::Now(20));
    }

    #[test]
    fn everything_falls_silent_behind_the_last_byte_of_an_answer_that_may_pass() {
        let (mut faults, now) = (Faults::default(), Instant::now());
        faults.silence_after(7);
        assert_eq!(faults.leave(Way::ToServer, now, 100, now), Leave::Now(100));
        faults.left(Way::ToServer, 100);
        assert_eq!(faults.leave(Way::ToClient, now, 5, now), Leave::Now(5));
        faults.left(Way::ToClient, 5);
        assert_eq!(faults.leave(Way::ToClient, now, 5, now), Leave::Now(2));
        faults.left(Way::ToClient, 2);
        for way in [Way::ToServer, Way::ToClient] {
            assert_eq!(faults.leave(way, now, 3, now), Leave::OnChange);
        }
        faults.restore();
        assert_eq!(faults.leave(Way::ToClient, now, 3, now), Leave::Now(3));
        faults.silence_after(0);
        assert!(faults.is_silent(Way::ToServer));
    }
}
