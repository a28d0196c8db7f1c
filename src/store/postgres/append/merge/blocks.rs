//! Which of the processes that append to a log merges next, and when. Pure: no I/O.
//!
//! They need not communicate, since each sees positions: the log is divided into blocks, and the process that has
//! written across the end of one merges, whatever others have written there. If each counted its own events, four
//! processes would merge four times as often.

use std::{ops::RangeInclusive, time::Duration};

use tokio::time::Instant;

use super::{MANY, PAUSE};

/// The most blocks that are merged at once, each with about [`MANY`] entries.
const MOST_BLOCKS: u64 = 4;

/// How often others are left to merge. They may be unable to.
const OTHERS: u32 = 16;

/// Where the log was last seen to end.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// When the end of a block had been passed, and up to where.
    passed: Option<(Instant, u64)>,
    /// The last position that this process has written.
    own_end: u64,
    /// The block size, or multiple of it, at whose ends a process merges; 0 while nobody has passed one.
    merged: u64,
    /// How often it was others' turn since it was ours.
    others: u32,
}

/// What an append means for the next merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is not time yet.
    Nobodys,
    Ours,
    /// The process that wrote before us merges, including what we had.
    Others,
}

impl Blocks {
    /// Records that this process has appended at these positions, with this many entries.
    pub(super) fn appended(&mut self, positions: &RangeInclusive<u64>, entries: usize, now: Instant) -> Turn {
        let turn = self.turn(positions, entries, now);
        self.own_end = self.own_end.max(*positions.end());
        match turn {
            Turn::Others => self.others += 1,
            Turn::Ours => self.others = 0,
            Turn::Nobodys => {}
        }
        if self.others > OTHERS {
            self.others = 0;
            return Turn::Ours;
        }
        turn
    }

    fn turn(&mut self, positions: &RangeInclusive<u64>, entries: usize, now: Instant) -> Turn {
        let (first, last) = (*positions.start(), *positions.end());
        // A smaller size divides a larger one, so many of their ends are the same, whatever is in a process's events.
        let block = power_of_two((last + 1 - first).saturating_mul(MANY as u64) / entries.max(1) as u64);
        let (then, end) = *self.passed.get_or_insert((now, first - 1));
        if last / block <= end / block {
            // The batch after this one may have been answered first, or the log has lost its end.
            let is_across = end > last && self.merged > 0 && last / self.merged > (first - 1) / self.merged;
            return if is_across { Turn::Ours } else { Turn::Nobodys };
        }
        self.passed = Some((now, last));
        self.merged = block * blocks(now - then, last - end, block);
        let ended = last / self.merged * self.merged;
        if ended <= end {
            return Turn::Nobodys;
        }
        // After an end that we have not passed with what is written now, but with something larger or smaller before,
        // the process is us.
        if ended >= first || ended <= self.own_end { Turn::Ours } else { Turn::Others }
    }
}

/// The next smaller power of two.
fn power_of_two(number: u64) -> u64 {
    1 << number.max(1).ilog2()
}

/// How many blocks arrive in a [`PAUSE`], if this many events have arrived in this time: 1, 2, or 4.
fn blocks(time: Duration, events: u64, block: u64) -> u64 {
    let each = time.as_secs_f64() * block as f64 / events.max(1) as f64;
    let mut blocks = 1;
    while blocks < MOST_BLOCKS && each * (blocks as f64) < PAUSE.as_secs_f64() {
        blocks *= 2;
    }
    blocks
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use foldhash::fast::FixedState;

    use super::*;

    const BLOCK: u64 = 1024;
    const ENTRIES: usize = MANY / BLOCK as usize;

    /// Events arrive one after the other, each after such a time, from processes in no order; returns where each has
    /// merged.
    fn merges(processes: usize, events: RangeInclusive<u64>, every: Duration) -> Vec<Vec<u64>> {
        let mut blocks: Vec<Blocks> = (0..processes).map(|_| Blocks::default()).collect();
        let mut merged = vec![Vec::new(); processes];
        let start = Instant::now();
        for (number, position) in events.enumerate() {
            let process = FixedState::with_seed(1).hash_one(number) as usize % processes;
            let now = start + every * u32::try_from(number).expect("a few");
            if blocks[process].appended(&(position..=position), ENTRIES, now) == Turn::Ours {
                merged[process].push(position);
            }
        }
        merged
    }

    #[test]
    fn the_more_come_the_more_are_merged_at_once() {
        let per_second = |rate: u32| Duration::from_secs(1) / rate;
        for (rate, each) in [(100, BLOCK), (4000, BLOCK), (5000, 2 * BLOCK), (10_000, 4 * BLOCK), (100_000, 4 * BLOCK)]
        {
            let merged = merges(1, 3000..=40_000, per_second(rate)).remove(0);
            // What comes before the first is guessed.
            let steps: Vec<u64> = merged.windows(2).skip(1).map(|pair| pair[1] - pair[0]).collect();
            assert!(steps.len() > 5 && steps.iter().all(|step| *step == each), "{rate}: {merged:?}");
        }
    }

    #[test]
    fn several_processes_merge_as_often_as_one() {
        for processes in [2, 3, 4, 8] {
            let merged = merges(processes, 1..=200_000, Duration::from_micros(50));
            let all: usize = merged.iter().map(Vec::len).sum();
            let alone = merges(1, 1..=200_000, Duration::from_micros(50))[0].len();
            assert!(all.abs_diff(alone) <= alone / 5, "{processes}: {merged:?}, alone {alone}");
        }
    }

    #[test]
    fn blocks_that_others_wrote_across_are_left_to_them_up_to_a_limit() {
        let mut blocks = Blocks::default();
        let now = Instant::now();
        let mut append = |position: u64, after: u64| {
            blocks.appended(&(position..=position), ENTRIES, now + Duration::from_secs(after))
        };
        assert_eq!(append(1, 0), Turn::Nobodys);
        for number in 1..=u64::from(OTHERS) {
            assert_eq!(append(number * BLOCK + 1, number), Turn::Others, "{number}");
            assert_eq!(append(number * BLOCK + 2, number), Turn::Nobodys);
        }
        let next = u64::from(OTHERS) + 1;
        assert_eq!(append(next * BLOCK + 1, next), Turn::Ours, "others seem to be unable to");
        assert_eq!(append((next + 1) * BLOCK + 1, next + 1), Turn::Others);
        assert_eq!(append((next + 2) * BLOCK, next + 2), Turn::Ours);
    }

    #[test]
    fn a_log_that_has_lost_its_end_is_merged_as_before() {
        let mut blocks = Blocks::default();
        let now = Instant::now();
        let mut append = |position: u64| blocks.appended(&(position..=position), ENTRIES, now);
        assert_eq!(append(100 * BLOCK), Turn::Ours);
        assert_eq!([50 * BLOCK - 1, 50 * BLOCK - 2].map(&mut append), [Turn::Nobodys; 2]);
        assert_eq!((50 * BLOCK..=56 * BLOCK).filter(|position| append(*position) == Turn::Ours).count(), 2);
    }

    #[test]
    fn a_process_that_is_alone_never_leaves_merging_to_others() {
        let mut blocks = Blocks::default();
        let start = Instant::now();
        let (mut position, mut ours) = (1, 0);
        for number in 0..20_000_u32 {
            // Batches of all sizes, of events of all sizes; some are answered after the next one.
            let random = FixedState::with_seed(2).hash_one(number);
            let (events, each) = (1 + random % 7, 1 << ((random >> 8) % 14));
            let second = position + events..=position + events + 2;
            let batches = [position..=position + events - 1, second];
            position += events + 3;
            let now = start + Duration::from_millis(5) * number;
            let turns = if random & 64 == 0 { [0, 1] } else { [1, 0] };
            for batch in turns.map(|turn| &batches[turn]) {
                let entries = usize::try_from((batch.end() + 1 - batch.start()) * each).expect("some");
                let turn = blocks.appended(batch, entries, now);
                assert!(turn != Turn::Others || random & 64 != 0, "{batch:?}");
                ours += u32::from(turn == Turn::Ours);
            }
        }
        assert!(ours > 1000, "{ours}");
    }

    #[test]
    fn a_batch_that_is_answered_late_has_its_turn() {
        let mut blocks = Blocks::default();
        let now = Instant::now();
        let mut append = |positions: RangeInclusive<u64>| {
            let entries = ENTRIES * usize::try_from(positions.end() + 1 - positions.start()).expect("a few");
            blocks.appended(&positions, entries, now + Duration::from_secs(1))
        };
        assert_eq!(append(4070..=4080), Turn::Nobodys);
        assert_eq!(append(4101..=4110), Turn::Others, "as far as can be told");
        assert_eq!(append(4081..=4100), Turn::Ours);
        assert_eq!(append(4111..=4120), Turn::Nobodys);
    }

    #[test]
    fn large_events_make_small_blocks() {
        let mut blocks = Blocks::default();
        let now = Instant::now();
        let mut append = |position: u64, entries| blocks.appended(&(position..=position), entries, now);
        let huge = MANY + 1;
        assert_eq!(append(1, 1), Turn::Nobodys);
        assert_eq!(append(2, huge), Turn::Nobodys);
        assert_eq!([3, 4, 5].map(|position| append(position, huge)), [Turn::Nobodys, Turn::Ours, Turn::Nobodys]);
        assert_eq!(append(6, 0), Turn::Nobodys);
    }
}
