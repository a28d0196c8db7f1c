use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use super::*;

fn seeds() -> std::ops::Range<u64> {
    0..300
}

/// About the lengths that `--seconds` accepts.
const RUNS: [u64; 6] = [3, 5, 10, 20, 60, 3600];

fn run(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The same seed gives the same result, and most other seeds give another.
fn follows_from_the_seed<T: PartialEq + Debug>(of: impl Fn(u64) -> T) {
    seeds().for_each(|seed| assert_eq!(of(seed), of(seed), "seed {seed}"));
    let others = seeds().filter(|seed| of(*seed) != of(seed + 1)).count();
    assert!(others * 3 > seeds().count(), "only {others} differ from the next one");
}

#[test]
fn every_schedule_follows_from_its_seed() {
    follows_from_the_seed(|seed| nuisances(seed).take(50).collect::<Vec<_>>());
    follows_from_the_seed(|seed| blows(seed, run(20)));
    follows_from_the_seed(failovers);
    follows_from_the_seed(|seed| losses(seed).take(9).collect::<Vec<_>>());
    follows_from_the_seed(|seed| silences(seed).take(9).collect::<Vec<_>>());
    follows_from_the_seed(|seed| lags(seed, 2).take(9).collect::<Vec<_>>());
    follows_from_the_seed(|seed| victim(seed, 2));
    follows_from_the_seed(delays);
    follows_from_the_seed(|seed| outage(seed, 2));
}

#[test]
fn the_kinds_are_not_bound_to_their_places() {
    let first = |of: BTreeSet<String>, all: usize| assert_eq!(of.len(), all, "{of:?}");
    first(seeds().filter_map(|seed| losses(seed).next()).map(|one| format!("{one:?}")).collect(), 3);
    first(seeds().filter_map(|seed| lags(seed, 2).next()).map(|one| format!("{one:?}")).collect(), 6);
    first(seeds().filter_map(|seed| nuisances(seed).next()).map(|one| format!("{:?}", one.what)).collect(), 4);
    first(seeds().map(|seed| format!("{:?}", failovers(seed)[0].1)).collect(), 2);
    let silences = seeds().filter_map(|seed| silences(seed).next());
    first(silences.map(|one| format!("{one:?}").split('(').next().unwrap_or_default().to_owned()).collect(), 4);
    first(seeds().map(|seed| victim(seed, 2).to_string()).collect(), 2);
}

#[test]
fn the_shortest_run_has_all_nuisances_and_victims_are_spread() {
    for seed in seeds() {
        let soon = nuisances(seed).take_while(|small| small.after < run(3));
        let kinds: BTreeSet<Nuisance> = soon.map(|small| small.what).collect();
        assert_eq!(kinds.len(), 4, "seed {seed}: {kinds:?}");
    }
    let victims: Vec<f64> = nuisances(1).take(1000).map(|small| small.victim).collect();
    assert!(victims.iter().all(|victim| (0.0..1.0).contains(victim)));
    for tenth in 0..10 {
        let from = f64::from(tenth) / 10.0;
        assert!(victims.iter().filter(|victim| (from..from + 0.1).contains(*victim)).count() > 50, "{from}");
    }
    let times: Vec<Duration> = nuisances(1).take(1000).map(|small| small.after).collect();
    assert!(times.is_sorted());
}

#[test]
fn blows_lie_inside_the_run_with_peace_between_them_and_behind_the_last() {
    for (seed, seconds) in seeds().flat_map(|seed| RUNS.map(|seconds| (seed, seconds))) {
        let blows = blows(seed, run(seconds));
        assert!((1..=4).contains(&blows.len()), "{blows:?}");
        assert!(blows.iter().any(|blow| blow.what == Blow::PrimaryKilled), "seed {seed}: {blows:?}");
        let (mut free, least) = (0.1, seconds as f64 * 0.05);
        for blow in &blows {
            assert!(blow.at >= free, "seed {seed}, {seconds} s: {blows:?}");
            assert!(blow.lasts >= Duration::from_millis(100) && blow.lasts < Duration::from_millis(500));
            free = blow.at + least / seconds as f64;
        }
        let end = blows.iter().map(|blow| blow.at + blow.lasts.as_secs_f64() / seconds as f64).fold(0.0, f64::max);
        assert!(end <= 0.85, "seed {seed}, {seconds} s: nothing is left behind {end}: {blows:?}");
    }
}

#[test]
fn all_blows_come_and_a_longer_run_has_more() {
    let mut kinds = BTreeMap::<Blow, u64>::new();
    for seed in seeds() {
        blows(seed, run(20)).iter().for_each(|blow| *kinds.entry(blow.what).or_default() += 1);
        assert_eq!(blows(seed, run(5)).len(), 1, "there is no room for two");
    }
    assert!(kinds.len() == 4 && kinds.values().all(|count| *count > 20), "{kinds:?}");
    assert!(seeds().any(|seed| blows(seed, run(3600)).len() == 4));
    let kill_at = |seed| blows(seed, run(20)).iter().position(|blow| blow.what == Blow::PrimaryKilled);
    assert!(seeds().any(|seed| kill_at(seed) > Some(0)), "the kill is always the first");
}

#[test]
fn of_the_failovers_one_loses_something_and_writing_goes_on_behind_both() {
    for seed in seeds() {
        let [(first, lossy), (second, other)] = failovers(seed);
        assert_ne!(lossy, other);
        assert!(first >= 0.2 && second >= first + 0.1 && second <= 0.7, "seed {seed}: {first}, {second}");
    }
}

#[test]
fn no_kind_is_missing_for_longer_than_a_block() {
    for seed in seeds() {
        let losses: Vec<Loss> = losses(seed).take(30).collect();
        assert!(losses.chunks(3).all(|block| block.iter().collect::<BTreeSet<_>>().len() == 3), "{losses:?}");
        let lags: Vec<Lag> = lags(seed, 2).take(30).map(|(lag, _)| lag).collect();
        assert!(lags.chunks(3).all(|block| block.iter().collect::<BTreeSet<_>>().len() == 3), "{lags:?}");
        let silences: Vec<Silence> = silences(seed).take(40).collect();
        for block in silences.chunks(4) {
            assert_eq!(block.iter().map(std::mem::discriminant).collect::<std::collections::HashSet<_>>().len(), 4);
        }
        let points = silences.iter().filter_map(|silence| match silence {
            Silence::InAnAnswer(bytes) => Some(*bytes),
            _ => None,
        });
        assert!(points.collect::<BTreeSet<_>>().len() > 5, "they are always at the same place");
    }
}

#[test]
fn replicas_are_a_fifth_of_a_second_behind_or_a_little_more() {
    let all: Vec<Duration> = seeds().flat_map(delays).collect();
    assert!(all.iter().all(|delay| (200..=260).contains(&delay.as_millis())));
    assert!(seeds().any(|seed| delays(seed)[0] != delays(seed)[1]));
}

#[test]
fn an_outage_takes_all_replicas_and_gives_all_back_in_any_order() {
    for seed in seeds() {
        let Outage { mut lost, mut back, pauses } = outage(seed, 3);
        lost.sort_unstable();
        back.sort_unstable();
        assert_eq!((lost, back), (vec![0, 1, 2], vec![0, 1, 2]), "seed {seed}");
        assert!(pauses.iter().all(|pause| *pause < Duration::from_millis(300)), "seed {seed}: {pauses:?}");
    }
    let differ = |of: &dyn Fn(Outage) -> String| seeds().map(|seed| of(outage(seed, 2))).collect::<BTreeSet<_>>().len();
    assert_eq!(differ(&|outage| format!("{:?} {:?}", outage.lost, outage.back)), 4);
    let has_pauses = |outage: Outage| format!("{:?}", outage.pauses.map(|pause| pause.is_zero()));
    assert_eq!(differ(&has_pauses), 4, "some are without a pause, some with one");
}
