//! How far a figure may differ between two runs and still agree, as measured by their rounds.

use serde_json::Value;

use crate::data::Entry;

/// The noise of figures without rounds. Where there are rounds, they differ by a tenth to a third (the middle half of the ratios of
/// two sides that took turns), and a figure that is not a ratio varies with the machine.
pub(crate) const TOLERANCE: f64 = 0.3;

/// With fewer rounds, quartiles mean nothing.
const ENOUGH: usize = 5;

/// The two sides of a table that a figure compares, by the names that the benchmarks give them. This holds for latencies too: with
/// one task, the throughput of a round follows from its latency.
const SIDES: [(&str, &str, &str, &str); 25] = [
    ("one_writer_vs_insert", "one writer", "guarded append, 1 task", "INSERT"),
    ("tasks32_vs_insert", "tasks with a boundary each", "guarded append, 32 tasks", "INSERT"),
    ("tasks256_vs_insert", "tasks with a boundary each", "guarded append, 256 tasks", "INSERT"),
    ("tasks32_vs_origin", "tasks with a boundary each", "guarded append, 32 tasks", "origin's statement"),
    ("old_after_slowdown", "tasks with a boundary each", "guarded append, 32 tasks", "… and one with after 0"),
    ("ten_events_vs_rows", TEN, "10 events, 32 tasks", "INSERTs of 160 rows"),
    ("ten_events_vs_rows_of_two", TEN, "10 events, 32 tasks", "… on two connections"),
    (
        "hot_vs_origin",
        "32 tasks on one boundary, trying again after each conflict",
        "read and guarded append",
        "origin's, with a lock",
    ),
    ("procs4_vs_insert", "4 processes", "guarded, 4 × 16 tasks", "INSERT"),
    (
        "procs4_remote_apply_vs_insert",
        "4 processes, and a replica has to have applied each commit",
        "guarded, 4 × 16 tasks",
        "INSERT",
    ),
    ("query_vs_bare", "one reader, 4 types and 2 predicates", "query", "bare SQL"),
    ("query_vs_origin", "one reader, 4 types and 2 predicates", "query", "origin's query"),
    ("stream_vs_copy", "all events, one by one", "stream of all events", "COPY, binary"),
    (
        "cycle_vs_bare",
        "one task: a model of two parts, a decision, an append",
        "a command",
        "bare query and plain INSERT",
    ),
    (
        "cycle_vs_origin",
        "one task: a model of two parts, a decision, an append",
        "a command",
        "origin's two statements",
    ),
    ("catchup_vs_copy", "all events, in batches of 1000", "subscription", "COPY"),
    ("append_growth", "one writer", "guarded append, long log", "guarded append, short log"),
    ("query_growth", "one reader, 4 types and 2 predicates", "query, long log", "query, short log"),
    ("bare_query_growth", "one reader, 4 types and 2 predicates", "bare SQL, long log", "bare SQL, short log"),
    ("client_vs_bb8", "a thousand connections, one after the other, and back", "router.client()", "bb8 get()"),
    ("strong_vs_bare", "strong_vs_bare", ROUTER, BARE),
    ("eventual_vs_bare", "eventual_vs_bare", ROUTER, BARE),
    ("strong_at_once_vs_bare", "strong_at_once_vs_bare", ROUTER, BARE),
    ("eventual_at_once_vs_bare", "eventual_at_once_vs_bare", ROUTER, BARE),
    ("small_cache_vs_usual", "cache", "shared_buffers=16MB", "shared_buffers=1GB"),
];

const TEN: &str = "appends of 10 events beside statements of 160 rows";
const ROUTER: &str = "a call through the router";
const BARE: &str = "prepared, on a bare client";

/// Where the noise comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Noise {
    /// The interquartile range of the rounds' ratios ÷ their median.
    OfRounds(f64),
    Tolerance,
}

impl Noise {
    /// The noise of a figure in two runs: the larger of the two.
    pub(crate) fn of(name: &str, one: &Entry, other: &Entry) -> Self {
        let both = [one, other].map(|entry| ratios(name, entry).and_then(spread));
        match both {
            [Some(one), Some(other)] => Self::OfRounds(one.max(other)),
            _ => Self::Tolerance,
        }
    }

    pub(crate) fn width(self) -> f64 {
        match self {
            Self::OfRounds(width) => width,
            Self::Tolerance => TOLERANCE,
        }
    }

    /// Whether the two values agree within the noise. Only 0 agrees with 0, since the noise is relative.
    pub(crate) fn covers(self, one: f64, other: f64) -> bool {
        let (low, high) = (one.abs().min(other.abs()), one.abs().max(other.abs()));
        one.signum() == other.signum() && high <= low * (1.0 + self.width()) || high == 0.0
    }
}

/// The ratio of the two sides in each round.
fn ratios(name: &str, entry: &Entry) -> Option<Vec<f64>> {
    let (_, title, over, under) = SIDES.iter().find(|(figure, ..)| *figure == name)?;
    let lanes = entry.rows(title);
    let rounds = |side: &str| -> Option<Vec<f64>> {
        let lane = lanes.iter().find(|lane| lane["name"] == side)?;
        lane["per_second"].as_array()?.iter().map(Value::as_f64).collect()
    };
    let (over, under) = (rounds(over)?, rounds(under)?);
    (over.len() == under.len()).then(|| over.iter().zip(&under).map(|(over, under)| over / under).collect())
}

/// The interquartile range ÷ the median.
fn spread(mut ratios: Vec<f64>) -> Option<f64> {
    if ratios.len() < ENOUGH || ratios.iter().any(|ratio| !ratio.is_finite()) {
        return None;
    }
    ratios.sort_by(f64::total_cmp);
    // Interpolate between the two nearest values.
    let at = |share: f64| {
        let place = share * (ratios.len() - 1) as f64;
        let (low, high) = (ratios.get(place.floor() as usize)?, ratios.get(place.ceil() as usize)?);
        Some(low + (high - low) * place.fract())
    };
    Some((at(0.75)? - at(0.25)?) / at(0.5)?).filter(|spread| spread.is_finite())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::parts::Part;

    fn entry(ours: &[f64], theirs: &[f64]) -> Entry {
        let lanes =
            json!([{"name": "guarded append, 32 tasks", "per_second": ours}, {"name": "INSERT", "per_second": theirs}]);
        let data =
            json!({"status": "ok", "result": {"tables": [{"title": "tasks with a boundary each", "lanes": lanes}]}});
        Entry { part: Part::named("append").unwrap(), data }
    }

    #[test]
    fn noise_is_the_middle_half_of_the_rounds_ratios() {
        let calm = entry(&[20.0, 20.0, 20.0, 20.0, 20.0], &[10.0; 5]);
        let noisy = entry(&[10.0, 18.0, 20.0, 24.0, 90.0], &[10.0; 5]);
        assert_eq!(Noise::of("tasks32_vs_insert", &calm, &calm), Noise::OfRounds(0.0));
        let Noise::OfRounds(width) = Noise::of("tasks32_vs_insert", &calm, &noisy) else { panic!("it has rounds") };
        assert!((width - 0.3).abs() < 1e-9, "{width}: the quartiles are 1.8 and 2.4, the median is 2");
        // A machine that slows down both sides adds no noise to their ratio.
        let both = entry(&[20.0, 40.0, 60.0, 80.0, 100.0], &[10.0, 20.0, 30.0, 40.0, 50.0]);
        assert_eq!(Noise::of("tasks32_vs_insert", &both, &both), Noise::OfRounds(0.0));
    }

    /// A wrong name of a side would not be an error: its figure would fall back to the tolerance.
    #[test]
    fn the_sides_are_those_of_the_published_run() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let published = crate::data::Evidence::read(&root.join(crate::data::FOLDER)).unwrap();
        for (name, title, ..) in SIDES {
            let of_it = published.0.iter().filter(|entry| entry.figure(name).is_some());
            assert!(of_it.filter_map(|entry| ratios(name, entry)).count() == 1, "{name}: {title}");
        }
    }

    #[test]
    fn without_rounds_there_is_a_tolerance() {
        let enough = entry(&[20.0; 5], &[10.0; 5]);
        for other in [entry(&[20.0; 4], &[10.0; 4]), entry(&[20.0; 5], &[10.0; 6]), entry(&[20.0; 5], &[0.0; 5])] {
            assert_eq!(Noise::of("tasks32_vs_insert", &enough, &other), Noise::Tolerance);
        }
        assert_eq!(Noise::of("live_primary_ms", &enough, &enough), Noise::Tolerance);
    }

    #[test]
    fn it_is_the_same_upwards_and_downwards_and_nothing_is_near_to_none() {
        let noise = Noise::OfRounds(0.25);
        assert!(noise.covers(4.0, 5.0) && noise.covers(5.0, 4.0) && noise.covers(-4.0, -5.0));
        assert!(!noise.covers(4.0, 5.1) && !noise.covers(5.1, 4.0) && !noise.covers(4.0, -4.0));
        assert!(noise.covers(0.0, 0.0) && noise.covers(0.0, -0.0) && !noise.covers(0.0, 0.01));
        assert!(Noise::Tolerance.covers(1.0, 1.3) && !Noise::Tolerance.covers(1.0, 1.31));
    }
}
