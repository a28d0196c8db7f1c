//! The aims of the figures. Aims apply to full runs only.

#[derive(Clone, Copy, Debug)]
pub(crate) enum Aim {
    AtMost(f64),
    AtLeast(f64),
}

use Aim::{AtLeast, AtMost};

/// Aims by figure. No two benchmarks use one name for different figures.
const AIMS: [(&str, Aim); 44] = [
    ("one_writer_extra_us", AtMost(120.0)),
    ("tasks32_vs_insert", AtLeast(2.0)),
    ("tasks256_vs_insert", AtLeast(3.0)),
    ("procs4_vs_insert", AtLeast(1.2)),
    ("procs4_remote_apply_vs_insert", AtLeast(1.2)),
    ("tasks32_vs_origin", AtLeast(20.0)),
    ("hot_vs_origin", AtLeast(5.0)),
    ("old_after_slowdown", AtMost(1.1)),
    ("query_vs_bare", AtMost(1.1)),
    ("query_vs_origin", AtMost(0.5)),
    ("stream_vs_copy", AtLeast(0.8)),
    ("stream_rss_mib", AtMost(32.0)),
    ("query_p99_under_appends", AtMost(2.0)),
    ("append_growth", AtMost(1.15)),
    ("query_growth", AtMost(1.3)),
    ("absent_guard_ms", AtMost(1.0)),
    ("cycle_vs_bare", AtMost(1.15)),
    ("cycle_vs_origin", AtMost(0.6)),
    ("catchup_vs_copy", AtLeast(0.7)),
    ("live_primary_ms", AtMost(3.0)),
    ("live_replica_ms", AtMost(10.0)),
    ("live_replica_only_ms", AtMost(50.0)),
    ("idle_queries_per_s", AtMost(2.0)),
    ("decision_ns", AtMost(100.0)),
    ("client_vs_bb8", AtMost(1.25)),
    ("strong_vs_bare", AtMost(1.05)),
    ("eventual_vs_bare", AtMost(1.05)),
    ("strong_extra_round_trips", AtMost(0.0)),
    ("eventual_extra_round_trips", AtMost(0.0)),
    ("causal_extra_round_trips", AtMost(0.0)),
    ("causal_extra_us", AtMost(60.0)),
    ("wake_ms", AtMost(5.0)),
    ("worst_postgres_peer_ratio", AtLeast(5.0)),
    ("worst_postgres_row_ratio", AtLeast(1.0)),
    ("umadb_ratio", AtLeast(1.0)),
    ("disk_vs_origin", AtMost(1.0)),
    ("anomalies", AtMost(0.0)),
    // The limits of the drills, which the drills check themselves with `--judge`.
    ("detection_median_ms", AtMost(1000.0)),
    ("longest_ms", AtMost(1100.0)),
    ("heal_max_ms", AtMost(1000.0)),
    ("append_p99_moved_percent", AtMost(20.0)),
    ("longest_refusal_ms", AtMost(300.0)),
    ("skew_percent", AtMost(5.0)),
    ("slow_share_percent", AtMost(2.0)),
];

/// The values of each drill that have an aim. The other values say only how much was checked.
const OF_DRILLS: [(&str, &[&str]); 11] = [
    ("drill-append", &["anomalies"]),
    ("drill-decide", &["anomalies"]),
    ("drill-consume", &["anomalies"]),
    ("drill-failover", &["anomalies", "detection_median_ms"]),
    ("drill-failover-lossy", &["anomalies", "detection_median_ms"]),
    ("drill-silence", &["anomalies", "longest_ms", "heal_max_ms"]),
    ("drill-shield", &["anomalies", "append_p99_moved_percent", "longest_refusal_ms"]),
    ("drill-balance", &["anomalies", "skew_percent", "slow_share_percent"]),
    ("drill-causal", &["anomalies"]),
    ("drill-http", &["anomalies"]),
    ("drill-soak", &["anomalies"]),
];

/// The figures of a drill that have an aim. Empty for other parts.
pub(crate) fn of_drill(part: &str) -> &'static [&'static str] {
    OF_DRILLS.iter().find(|(name, _)| *name == part).map_or(&[], |(_, figures)| figures)
}

/// The aim of a figure.
pub(crate) fn of(name: &str) -> Option<Aim> {
    AIMS.iter().find(|(aimed, _)| *aimed == name).map(|(_, aim)| *aim)
}

/// The verdict on a figure. A figure that is missing, incomplete or from a short run does not meet its aim.
pub(crate) fn verdict(name: &str, value: Option<f64>, incomplete: bool, quick: bool) -> &'static str {
    match (of(name), value.filter(|value| value.is_finite())) {
        (None, _) => "",
        (_, None) => "**missing**",
        _ if quick => "short run",
        (Some(aim), Some(value)) if !aim.is_met(value) => "**missed**",
        _ if incomplete => "**open**",
        _ => "met",
    }
}

impl Aim {
    pub(crate) fn is_met(self, value: f64) -> bool {
        match self {
            AtMost(most) => value <= most,
            AtLeast(least) => value >= least,
        }
    }

    pub(crate) fn shown(self) -> String {
        match self {
            AtMost(most) => format!("≤ {most}"),
            AtLeast(least) => format!("≥ {least}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parts::{Kind, PARTS, Part};

    #[test]
    fn what_is_missing_meets_no_aim() {
        let (at_least_5, none) = ("worst_postgres_peer_ratio", "max_ms");
        for (value, incomplete, quick, expected) in [
            (Some(5.0), false, false, "met"),
            (Some(4.9), false, false, "**missed**"),
            (Some(5.0), true, false, "**open**"),
            (Some(4.9), true, false, "**missed**"),
            (Some(5.0), false, true, "short run"),
            (Some(f64::NAN), false, false, "**missing**"),
            (None, false, true, "**missing**"),
        ] {
            assert_eq!(verdict(at_least_5, value, incomplete, quick), expected, "{value:?} {incomplete} {quick}");
            assert_eq!(verdict(none, value, incomplete, quick), "");
        }
    }

    #[test]
    fn aims_are_met_on_their_side() {
        assert!(of("tasks32_vs_insert").unwrap().is_met(2.0) && !of("tasks32_vs_insert").unwrap().is_met(1.99));
        assert!(of("anomalies").unwrap().is_met(0.0) && !of("anomalies").unwrap().is_met(1.0));
        assert!(of("max_ms").is_none());
        assert!(of("heal_max_ms").unwrap().is_met(567.6) && !of("heal_max_ms").unwrap().is_met(1000.5));
        assert!(!AtMost(1.0).is_met(f64::NAN) && !AtLeast(1.0).is_met(f64::NAN));
    }

    #[test]
    fn every_drill_has_aims_and_no_anomalies_is_one_of_them() {
        for part in PARTS.iter().filter(|part| part.kind == Kind::Drill) {
            let figures = of_drill(part.name);
            assert!(figures.contains(&"anomalies"), "{}", part.name);
            assert!(figures.iter().all(|figure| of(figure).is_some()), "{}: {figures:?}", part.name);
        }
        assert!(OF_DRILLS.iter().all(|(name, _)| Part::named(name).is_some_and(|part| part.kind == Kind::Drill)));
        assert_eq!(of_drill("append"), [""; 0]);
    }
}
