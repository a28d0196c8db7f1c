//! The pure core behind its lock, with the clock that it does not have.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

pub(super) use super::simple::{Choice, Observation, Want};
use super::{Role, simple::Core};

#[derive(Debug)]
pub(super) struct State {
    core: Mutex<Core>,
    epoch: Instant,
    random: AtomicU64,
}

impl State {
    pub(super) fn new(roles: impl IntoIterator<Item = Role>) -> Self {
        let seed = RandomState::new().hash_one(0_u8);
        Self { core: Mutex::new(Core::new(roles)), epoch: Instant::now(), random: AtomicU64::new(seed) }
    }

    pub(super) fn observe(&self, node: usize, observation: Observation) {
        let now = self.now();
        self.core.lock().unwrap_or_else(PoisonError::into_inner).observe(node, observation, now);
    }

    pub(super) fn choose(&self, want: Want, tried: &[usize], load: impl Fn(usize) -> usize) -> Option<Choice> {
        let (now, random) = (self.now(), self.random());
        self.core.lock().unwrap_or_else(PoisonError::into_inner).choose(want, tried, load, random, now)
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// SplitMix64 (Steele, Lea, Flood 2014) on a shared counter: enough to spread calls, and no lock.
    fn random(&self) -> u64 {
        let mut z = self.random.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
