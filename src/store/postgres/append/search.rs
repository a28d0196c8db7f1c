//! How matching events are searched for, and when the server plans the search.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    Filter,
    filter::{Bounds, FilterItem, Fragment, PredicateGroup, Side},
    router::Planning,
    store::postgres::{
        HotKey,
        filter_sql::{self, Indexes, Param},
    },
};

/// A search that is planned once is expensive if it takes longer than this plus the time for its rows.
const DEAR: Duration = Duration::from_millis(20);
const EACH_ROW: Duration = Duration::from_micros(50);

/// What an expensive search adds to the score of its shape, from which a cheap one takes 1, and the score at which the
/// shape is planned for each call: two expensive ones in a row, or every fifth of many. A server that is slow for a
/// moment does not change the statements.
const A_DEAR_ONE: u32 = 4;
const TOO_DEAR: u32 = 8;

/// Expensive ones within this time count as one: they are together in the same moment.
const MOMENT: Duration = Duration::from_millis(100);

/// How many shapes have a score before all are forgotten.
const SHAPES: usize = 1024;

/// A log's searches.
#[derive(Debug)]
pub(in crate::store::postgres) struct Searches {
    pub(in crate::store::postgres) keys: Arc<[HotKey]>,
    /// How expensive the searches that are planned once are, by shape.
    scores: Mutex<HashMap<u64, Score>>,
    hasher: RandomState,
}

/// How expensive the searches of a shape are.
#[derive(Debug)]
struct Score {
    points: u32,
    /// When the last expensive one was counted.
    dear_at: Instant,
}

/// The condition on the table's alias `e`, and when its search is planned.
#[derive(Debug)]
pub(in crate::store::postgres) struct Search {
    pub(in crate::store::postgres) condition: String,
    pub(in crate::store::postgres) planning: Planning,
    /// Whether that was right shows in the time that it takes.
    pub(in crate::store::postgres) watched: Option<Watched>,
}

/// A search that may be more expensive than an alternative.
#[derive(Debug)]
pub(in crate::store::postgres) struct Watched {
    searches: Arc<Searches>,
    shape: u64,
}

impl Searches {
    pub(in crate::store::postgres) fn new(keys: Arc<[HotKey]>) -> Arc<Self> {
        Arc::new(Self { keys, scores: Mutex::default(), hasher: RandomState::new() })
    }

    /// For everything within the bounds, by a statement that may be planned once if it has none: it is fenced against
    /// scans of the primary key. Its parameters follow the existing ones.
    pub(in crate::store::postgres) fn of<'a>(
        self: &Arc<Self>,
        filter: &'a Filter,
        bounds: Bounds,
        is_fenced: bool,
        params: &mut Vec<Param<'a>>,
    ) -> Search {
        if is_fenced && bounds == Bounds::default() && is_contained(filter) {
            let before = params.len();
            let condition = filter_sql::planned_once(filter, &self.keys, params);
            if !has_ways(filter) {
                return Search { condition, planning: Planning::Once, watched: None };
            }
            let shape = self.hasher.hash_one(&condition);
            if self.scores().get(&shape).is_none_or(|score| score.points < TOO_DEAR) {
                let watched = Some(Watched { searches: Arc::clone(self), shape });
                return Search { condition, planning: Planning::Once, watched };
            }
            params.truncate(before);
        }
        let condition = filter_sql::selection(filter, bounds, &self.keys, params);
        Search { condition, planning: for_values(filter), watched: None }
    }

    /// For a statement that has a bound on positions itself.
    pub(in crate::store::postgres) fn bounded<'a>(&self, filter: &'a Filter, params: &mut Vec<Param<'a>>) -> Search {
        let indexes = Indexes { keys: &self.keys, is_bounded: true, by_types: true };
        let condition = filter_sql::filter(filter, indexes, params);
        Search { condition, planning: for_values(filter), watched: None }
    }

    fn scores(&self) -> MutexGuard<'_, HashMap<u64, Score>> {
        self.scores.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    /// Records how long it took, for this many rows.
    pub(in crate::store::postgres) fn took(&self, time: Duration, rows: usize) {
        self.took_until(Instant::now(), time, rows);
    }

    fn took_until(&self, now: Instant, time: Duration, rows: usize) {
        let is_dear = time > DEAR + EACH_ROW * u32::try_from(rows).unwrap_or(u32::MAX);
        let mut scores = self.searches.scores();
        if is_dear {
            if scores.len() >= SHAPES {
                scores.clear();
            }
            match scores.get_mut(&self.shape) {
                Some(score) if now.saturating_duration_since(score.dear_at) < MOMENT => {}
                Some(score) => *score = Score { points: score.points + A_DEAR_ONE, dear_at: now },
                None => drop(scores.insert(self.shape, Score { points: A_DEAR_ONE, dear_at: now })),
            }
        } else if let Some(score) = scores.get_mut(&self.shape) {
            score.points -= 1;
            if score.points == 0 {
                scores.remove(&self.shape);
            }
        }
    }
}

/// A search that may use several indexes is planned for each call: which of them are worth using depends on how many
/// events have these types, tags and members, and a plan for any values assumes that all of them are rare.
fn for_values(filter: &Filter) -> Planning {
    if has_ways(filter) { Planning::ForEach } else { Planning::ByTheServer }
}

/// Whether one of its items has several parts that have indexes.
fn has_ways(filter: &Filter) -> bool {
    let has_ways = |item: &FilterItem| {
        let has =
            |side| item.predicates().is_some_and(|group| group.fragments().any(|fragment| fragment.side() == side));
        let parts = [item.types().len() > 0, item.tags().len() > 0, has(Side::Payload), has(Side::Metadata)];
        parts.into_iter().filter(|is_there| *is_there).count() > 1
    };
    filter.items().is_some_and(|mut items| items.any(has_ways))
}

/// Whether each item asks for tags or for members of the payload, perhaps of some types, and all of them for few: then
/// the index on what is contained is nearly always the best choice. (For many values, the server would assume that they
/// are most of the log, and for types alone, it must know how many events have them.)
fn is_contained(filter: &Filter) -> bool {
    const FEW: usize = 8;
    let in_payload = |fragment: &Fragment| fragment.side() == Side::Payload;
    // The number of searches of an item.
    let searches = |item: &FilterItem| match (item.tags().len(), item.predicates()) {
        (1.., None) => 1,
        (0, Some(PredicateGroup::AnyOf(any))) if any.iter().all(in_payload) => any.len(),
        (0, Some(PredicateGroup::AllOf(all))) if all.iter().all(in_payload) => 1,
        _ => FEW + 1,
    };
    filter.items().is_some_and(|items| items.map(searches).sum::<usize>() <= FEW)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Predicate;

    fn planned(searches: &Arc<Searches>, filter: &Filter) -> (Planning, Option<Watched>) {
        let search = searches.of(filter, Bounds::default(), true, &mut Vec::new());
        (search.planning, search.watched)
    }

    #[test]
    fn searches_with_a_choice_of_indexes_are_planned_for_their_values() {
        let searches = Searches::new([].into());
        let start = Filter::matching;
        let (payload, metadata) = ([Predicate::payload("a", 1)], [Predicate::metadata("a", 1)]);
        let both = [Predicate::payload("a", 1), Predicate::metadata("a", 1)];
        for (filter, planning) in [
            (start().all_tags_of(["t"]).finish(), Planning::Once),
            (start().any_predicate_of(payload.clone()).finish(), Planning::Once),
            (start().any_type_of(["A"]).and_all_tags_of(["t"]).finish(), Planning::Once),
            (start().any_type_of(["A"]).and_any_predicate_of(payload.clone()).finish(), Planning::Once),
            (start().all_tags_of(["t"]).and_any_predicate_of(payload).finish(), Planning::ForEach),
            (start().all_predicates_of(both).finish(), Planning::ForEach),
            (start().any_predicate_of(metadata).finish(), Planning::ByTheServer),
            (start().any_type_of(["A"]).finish(), Planning::ByTheServer),
        ] {
            let filter = filter.expect("a filter");
            assert_eq!(planned(&searches, &filter).0, planning, "{filter:?}");
            let bounds = Bounds { after: Some(7), ..Bounds::default() };
            for (bounds, is_fenced) in [(bounds, true), (Bounds::default(), false)] {
                let search = searches.of(&filter, bounds, is_fenced, &mut Vec::new());
                assert_ne!(search.planning, Planning::Once, "{filter:?}");
            }
        }
    }

    #[test]
    fn search_shapes_that_are_repeatedly_expensive_are_planned_per_call() {
        let searches = Searches::new([].into());
        let by = |tag: &str| Filter::matching().any_type_of(["A"]).and_all_tags_of([tag]).finish().expect("a filter");
        let mut now = Instant::now();
        let took_at = |now, milliseconds, rows| match planned(&searches, &by("t")) {
            (Planning::Once, Some(watched)) => watched.took_until(now, Duration::from_millis(milliseconds), rows),
            other => panic!("{other:?}"),
        };
        let mut took = |milliseconds, rows| {
            now += MOMENT;
            took_at(now, milliseconds, rows);
        };
        // Now and then, or for many rows, it may take long.
        for _ in 0..10 {
            took(21, 0);
            (0..4).for_each(|_| took(1, 0));
            took(60, 1000);
        }
        took(21, 0);
        (0..10).for_each(|_| took_at(now, 21, 0));
        assert_eq!(planned(&searches, &by("t")).0, Planning::Once, "all of that is one moment");
        took_at(now + MOMENT, 21, 0);
        assert_eq!(planned(&searches, &by("other")).0, Planning::ForEach, "values are no part of its shape");
        let again = by("t");
        let mut params = Vec::new();
        let search = searches.of(&again, Bounds::default(), true, &mut params);
        assert_eq!((params.len(), search.condition.contains("IS TRUE")), (2, false));
        let untagged =
            Filter::matching().any_type_of(["A"]).and_any_predicate_of([Predicate::payload("a", 1)]).finish();
        assert_eq!(planned(&searches, &untagged.expect("a filter")).0, Planning::Once, "another shape");
    }
}
