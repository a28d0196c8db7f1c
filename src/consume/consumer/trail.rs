//! Earlier checkpoints, at growing distances.

use crate::Mark;

/// Places reached before the last one, lowest position first: about as many as the position has binary digits.
#[derive(Clone, Debug, Default)]
pub(super) struct Trail(Vec<Mark>);

impl Trail {
    pub(super) fn new(marks: Vec<Mark>) -> Self {
        Self(marks)
    }

    pub(super) fn marks(&self) -> &[Mark] {
        &self.0
    }

    /// Adds a place, and drops each place between two others of which the further is at most four times as far away as
    /// the nearer. The remaining places are never more than that apart, and no more than two of them are within any
    /// such stretch. (Keeping what is twice as far as the next, one by one, would keep the last three forever: they all
    /// move on together.)
    pub(super) fn push(&mut self, mark: Mark) {
        let distance = |earlier: &Mark| mark.position().saturating_sub(earlier.position());
        let mut kept = vec![mark];
        let mut earlier = std::mem::take(&mut self.0).into_iter().rev().peekable();
        while let Some(place) = earlier.next() {
            let nearer = kept.last().map_or(1, distance).max(1);
            if earlier.peek().is_none_or(|further| distance(further) > nearer.saturating_mul(4)) {
                kept.push(place);
            }
        }
        kept.reverse();
        self.0 = kept;
    }

    /// As it is stored in the table.
    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_else(|_| "[]".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EventId;

    #[test]
    fn few_places_reach_far_back() {
        let mut trail = Trail::default();
        for position in 1..=100_000 {
            trail.push(Mark::new(position, EventId::new()));
        }
        let distances: Vec<u64> = trail.marks().iter().rev().map(|mark| 100_000 - mark.position()).collect();
        assert!(distances.len() <= 20, "{distances:?}");
        assert_eq!(distances[0], 0);
        // Wherever a log that has lost events ends, a place is not much further back.
        for lost in [10, 100, 1000, 10_000] {
            let common = distances.iter().find(|distance| **distance >= lost);
            assert!(common.is_some_and(|common| *common <= 8 * lost), "{lost} lost: {distances:?}");
        }
    }
}
