//! Randomness from a seed supplied by the caller: the same seed gives the same decisions.

/// One step of SplitMix64 (Steele, Lea, Flood 2014): turns any number into one that looks random.
pub(in crate::router) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The increment of the state: an odd number, so that it passes through all values.
pub(in crate::router) const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// A number below `bound`, from any number. (By multiplication instead of division: Lemire 2019, without its
/// correction.)
pub(in crate::router) fn below(random: u64, bound: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        let random = mix(self.0);
        self.0 = self.0.wrapping_add(STEP);
        random
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        below(self.next(), bound)
    }
}
