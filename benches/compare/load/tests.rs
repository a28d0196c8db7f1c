//! Compares the computations behind the figures of `load` and `scale` with what can be counted by hand.

mod arrivals {
    use std::time::Duration;

    use crate::arrivals::Arrivals;

    #[test]
    fn arrivals_are_at_the_rate_that_was_asked_for() {
        let arrivals = Arrivals::shared(200.0, 0, 1);
        assert_eq!([0, 1, 200].map(|number| arrivals.at(number)), [0, 5, 1000].map(Duration::from_millis));
        assert_eq!(arrivals.by(Duration::from_millis(999)), 200);
        assert_eq!(arrivals.by(Duration::ZERO), 1);
    }

    #[test]
    fn processes_share_a_rate_by_turns() {
        let both = [0, 1].map(|process| Arrivals::shared(200.0, process, 2));
        let mut all: Vec<_> = both.iter().flat_map(|one| (0..3).map(|number| one.at(number))).collect();
        all.sort_unstable();
        assert_eq!(all, [0, 5, 10, 15, 20, 25].map(Duration::from_millis));
        assert_eq!(both.map(|one| one.by(Duration::from_millis(4))), [1, 0]);
    }

    #[test]
    fn what_has_arrived_is_what_arrives_until_then() {
        let arrivals = Arrivals::shared(700.0, 2, 3);
        for number in 0..1000 {
            assert_eq!(arrivals.by(arrivals.at(number)), number + 1);
            assert_eq!(arrivals.by(arrivals.at(number) - Duration::from_nanos(1)), number);
        }
        assert_eq!(Arrivals::from_parts(arrivals.parts()), arrivals);
    }
}

mod drive {
    use std::time::{Duration, Instant};

    use crate::{
        Outcome,
        arrivals::Arrivals,
        drive::{Ran, drive},
        latencies::Latencies,
        side::{Step, Worker},
    };

    /// Answers at once, except for the 20th time.
    struct Stalling {
        number: u64,
        stall: Duration,
    }

    impl Worker for Stalling {
        async fn step(&mut self) -> Outcome<Step> {
            self.number += 1;
            if self.number == 20 {
                tokio::time::sleep(self.stall).await;
            }
            Ok(Step::READ)
        }
    }

    async fn measured(stall: u64, rate: f64, span: u64, count: usize) -> (Ran, Latencies) {
        let stall = Duration::from_millis(stall);
        let stalls = |worker| if worker == 0 { stall } else { Duration::ZERO };
        let mut workers: Vec<_> = (0..count).map(|worker| Stalling { number: 0, stall: stalls(worker) }).collect();
        let arrivals = Some(Arrivals::shared(rate, 0, 1));
        let ran = drive(&mut workers, Instant::now(), Duration::from_millis(span), arrivals).await.unwrap();
        assert_eq!(workers.len(), count);
        let mut latencies = Latencies::new().unwrap();
        latencies.add(&ran.latencies).unwrap();
        (ran, latencies)
    }

    /// One of 400 answers is slow by itself, which alone would be no more than the p99.8; a fifth of them waited for
    /// it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_waits_for_a_side_that_stalls_is_counted() {
        let (ran, latencies) = measured(400, 200.0, 2000, 1).await;
        assert_eq!((ran.done, ran.waiting), (400, 0));
        assert!(latencies.millis(0.99) > 350.0, "p99 {}", latencies.millis(0.99));
        assert!(latencies.millis(0.9) > 150.0, "p90 {}", latencies.millis(0.9));
        assert!(latencies.millis(0.5) < 100.0, "p50 {}", latencies.millis(0.5));
    }

    /// Arrivals that nobody has begun by the end are included, with their whole wait.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_left_at_the_end_is_counted() {
        let (ran, latencies) = measured(1500, 100.0, 1000, 1).await;
        assert_eq!((ran.done, ran.waiting), (20, 80));
        assert_eq!(latencies.count(), 100);
        assert!(latencies.millis(0.5) > 250.0, "p50 {}", latencies.millis(0.5));
        assert!(latencies.longest_millis() > 1400.0, "max {}", latencies.longest_millis());
        assert!(ran.micros > 1_600_000, "the last answer took {} µs", ran.micros);
    }

    /// Another worker is free: only the stalled one is slow.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_is_free_takes_what_arrives() {
        let (ran, latencies) = measured(400, 200.0, 2000, 8).await;
        assert_eq!((ran.done, ran.waiting), (400, 0));
        assert!(latencies.millis(0.95) < 100.0, "p95 {}", latencies.millis(0.95));
    }
}

mod latencies {
    use std::time::Duration;

    use crate::latencies::Latencies;

    fn of(millis: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::new().unwrap();
        millis.into_iter().for_each(|one| latencies.record(Duration::from_millis(one)));
        latencies
    }

    fn merged(all: &[Latencies]) -> Latencies {
        let mut whole = Latencies::new().unwrap();
        for one in all {
            // As between processes.
            let line = serde_json::to_string(&one.counted()).unwrap();
            whole.add(&serde_json::from_str(&line).unwrap()).unwrap();
        }
        whole
    }

    fn is_about(found: f64, expected: f64) -> bool {
        (found - expected).abs() <= expected / 500.0
    }

    #[test]
    fn merging_is_as_if_one_had_recorded_all() {
        let (fast, slow) = (of(1..=900), of((1..=100).map(|number| number * 100)));
        let both = merged(&[fast, slow]);
        let at_once = of((1..=900).chain((1..=100).map(|number| number * 100)));
        assert_eq!(both.count(), 1000);
        for quantile in [0.0, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0] {
            assert_eq!(both.millis(quantile).to_bits(), at_once.millis(quantile).to_bits(), "{quantile}");
        }
    }

    #[test]
    fn a_quantile_of_all_is_no_mean_of_quantiles() {
        // 990 answers of 1 ms by one process, 10 of a second by another: 1 % of all are slow.
        let both = merged(&[of(vec![1; 990]), of(vec![1000; 10])]);
        assert!(is_about(both.millis(0.99), 1.0));
        assert!(is_about(both.millis(0.995), 1000.0));
        assert!(is_about(both.longest_millis(), 1000.0));
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert!(of([]).millis(0.5).is_nan());
    }

    #[test]
    fn an_hour_is_the_end() {
        let latencies = of([10_000_000]);
        assert!(is_about(latencies.longest_millis(), 3_600_000.0));
    }
}

mod options {
    use crate::{Outcome, options::Options};

    fn taken(words: &[(&str, &str)]) -> Outcome<Options> {
        let mut options = Options::default();
        for (option, value) in words {
            assert!(options.take(option, || Ok((*value).to_owned()))?, "{option}");
        }
        options.check().map(|()| options)
    }

    #[test]
    fn rates_are_numbers_or_as_fast_as_possible() {
        let rate = |text| taken(&[("--rate", text)]).map(|options| options.rate);
        assert_eq!(rate("2_000/s").unwrap(), Some(2000.0));
        assert_eq!(rate("max").unwrap(), None);
        assert!(rate("0").is_err() && rate("fast").is_err());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(taken(&[("--writers", "2"), ("--processes", "3")]).is_err());
        assert!(taken(&[("--writers", "65")]).is_err());
        assert!(taken(&[("--payload", "65537")]).is_err());
        assert!(!Options::default().take("--seed", || Ok("1".to_owned())).unwrap());
    }
}

mod payload {
    use crate::{
        library::Library,
        payload::{LEAST, MOST, Padded},
    };

    #[test]
    fn a_payload_is_as_long_as_was_asked_for() {
        let boundary = Library::new(1, 10_000).boundary(7);
        let json = |number, bytes| serde_json::to_string(&Padded::new(boundary, number, bytes).unwrap()).unwrap();
        for bytes in [LEAST, 200, 1000, 4097, MOST] {
            assert_eq!(json(bytes, bytes).len() as u64, bytes);
            assert!(json(1, bytes).contains(&format!("\"BookID\":\"{}\"", boundary.book)));
        }
        assert!(Padded::new(boundary, 1, 20).is_err());
        assert_ne!(json(1, 300), json(2, 300));
    }
}

mod space {
    use crate::space::{Bytes, ENOUGH, Growth, OLD_ROOM, Point, Rows, TOO_SHORT, worst};

    fn at(table: u64, indexes: u64, wal: u64) -> Bytes {
        Bytes { table, indexes, wal }
    }

    /// This many rows of 100 bytes, which have grown table, indexes and log by this much each.
    fn growth(events: u64, [table, indexes, wal]: [u64; 3]) -> Growth {
        let mut growth = Growth::default();
        growth.add(Bytes::default(), at(table * events, indexes * events, wal * events), rows(events));
        growth
    }

    fn rows(events: u64) -> Rows {
        Rows { events, least: 100 * events }
    }

    fn point(label: &str, ours: Growth, origin: Growth) -> Point {
        let (ours, origin) = (ours.per_event().unwrap(), origin.per_event().unwrap());
        Point { label: label.to_owned(), payload: None, ours, origin }
    }

    #[test]
    fn bytes_are_counted_for_each_event_over_all_rounds() {
        let mut growth = Growth::default();
        growth.add(at(8_192, 16_384, 1_000), at(24_576, 24_576, 51_000), rows(50));
        // What happens between two rounds does not count.
        growth.add(at(81_920, 81_920, 900_000), at(98_304, 81_920, 910_000), rows(150));
        let each = growth.per_event().unwrap();
        assert_eq!(
            [each.table, each.indexes, each.wal, each.disk(), each.least].map(f64::to_bits),
            [32_768.0 / 200.0, 8_192.0 / 200.0, 300.0, 40_960.0 / 200.0, 100.0].map(f64::to_bits)
        );
    }

    #[test]
    fn nothing_has_no_size() {
        assert!(Growth::default().per_event().is_none());
    }

    #[test]
    fn of_few_events_nothing_is_told() {
        let few = growth(ENOUGH - 1, [120, 50, 10]).per_event().unwrap();
        assert_eq!((few.fault(), few.json()["left_out"].as_str()), (Some(TOO_SHORT), Some(TOO_SHORT)));
        let enough = growth(ENOUGH, [120, 50, 10]).per_event().unwrap();
        assert_eq!((enough.fault(), enough.json()["left_out"].as_str()), (None, None));
    }

    #[test]
    fn who_finds_room_in_old_pages_is_not_small() {
        let found = growth(5000, [99, 50, 10]).per_event().unwrap();
        assert_eq!(found.fault(), Some(OLD_ROOM));
        assert!(growth(5000, [100, 0, 10]).per_event().unwrap().fault().is_none());
    }

    #[test]
    fn the_figure_is_of_the_load_where_it_is_the_most() {
        let origin = || growth(5000, [110, 90, 100]);
        let [disk, wal] = worst(&[
            point("writers 1", growth(5000, [110, 30, 300]), origin()),
            point("rate 10", growth(5000, [150, 100, 200]), origin()),
            point("payload 200", growth(5000, [20, 50, 500]), origin()),
            point("payload 300", growth(5000, [150, 50, 100]), growth(5000, [1, 1, 100])),
        ]);
        assert_eq!(
            (disk.value.to_bits(), disk.of.as_str()),
            (
                1.25_f64.to_bits(),
                "the most of 2 loads, at rate 10; not counted: payload 200: went into room in pages that were there, \
                 payload 300: went into room in pages that were there"
            )
        );
        assert_eq!(disk.incomplete, None);
        // Rows that go into existing space are written to the WAL all the same.
        assert_eq!((wal.value.to_bits(), wal.of.as_str()), (5.0_f64.to_bits(), "the most of 4 loads, at payload 200"));
    }

    #[test]
    fn where_the_origin_happens_to_have_room_is_not_the_worst_load() {
        // 300 bytes per event on average, with space in its indexes for those of the second load.
        let (first, second) = (|| growth(5000, [110, 290, 100]), || growth(5000, [110, 90, 100]));
        let points = [
            point("rate 10", growth(5000, [110, 220, 100]), first()),
            point("rate 25", growth(5000, [110, 190, 100]), second()),
        ];
        let [disk, _] = worst(&points);
        assert_eq!((disk.value.to_bits(), disk.of.as_str()), (1.1_f64.to_bits(), "the most of 2 loads, at rate 10"));
        // Loads with other events are compared separately, and those that went into old pages are left out.
        let larger = Point {
            payload: Some(2000),
            ..point("payload 2000", growth(5000, [600, 200, 1]), growth(5000, [500, 100, 1]))
        };
        let old = point("rate 50", growth(5000, [110, 190, 100]), growth(5000, [1, 1, 100]));
        let [disk, _] = worst(&[&points[..], &[larger, old]].concat());
        assert!((disk.value - 800.0 / 600.0).abs() < 1e-9 && disk.of.contains("at payload 2000"), "{disk:?}");
        // The point with more events has more weight in the mean.
        let [disk, _] = worst(&[
            point("a", growth(1000, [110, 290, 1]), growth(1000, [110, 290, 1])),
            point("b", growth(3000, [110, 90, 1]), second()),
        ]);
        assert!((disk.value - 400.0 / (1_400_000.0 / 6000.0)).abs() < 1e-9, "{disk:?}");
    }

    #[test]
    fn what_was_too_short_leaves_the_figure_open() {
        let origin = || growth(5000, [110, 90, 100]);
        let short = || point("payload 65536", growth(10, [120, 300, 100]), origin());
        let [disk, wal] = worst(&[point("writers 1", growth(5000, [110, 30, 100]), origin()), short()]);
        assert_eq!(disk.value.to_bits(), 0.7_f64.to_bits());
        assert_eq!(disk.incomplete.as_deref(), Some("payload 65536: too short to tell"));
        assert_eq!(wal.incomplete, disk.incomplete);
        let [disk, _] = worst(&[short()]);
        assert!(disk.value.is_nan() && disk.of == TOO_SHORT && disk.incomplete.is_some());
    }
}
