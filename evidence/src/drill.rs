//! The last line of a drill: `drill failover: anomalies=0 appends=1234 …`, or of `consume`: `drill consume: skipped=0 …`.

use serde_json::{Map, Value};

/// The kinds of anomalies that `consume` counts separately.
const KINDS: [&str; 3] = ["skipped", "out_of_order", "duplicates"];

/// The values by name; none without such a line.
pub(crate) fn values(output: &str) -> Option<Map<String, Value>> {
    let line = output.lines().rev().find(|line| line.starts_with("drill "))?;
    let (_, pairs) = line.split_once(": ")?;
    // A soak that found something adds how to repeat it after its values.
    let pairs = pairs.split(" again=").next()?;
    let mut values = Map::new();
    for pair in pairs.split_whitespace() {
        let (name, text) = pair.split_once('=')?;
        let value = serde_json::from_str(text).ok().filter(Value::is_number);
        values.insert(name.to_owned(), value.unwrap_or_else(|| Value::String(text.to_owned())));
    }
    if !values.contains_key("anomalies") {
        let each: Option<Vec<u64>> = KINDS.iter().map(|kind| values.get(*kind)?.as_u64()).collect();
        values.insert("anomalies".to_owned(), each?.iter().sum::<u64>().into());
    }
    Some(values)
}

/// The seed of the drill, if it reports one: `seed N` in its first line, or `seed=N` in the last line of a soak. Seeds of
/// drills that another drill ran do not count.
pub(crate) fn seed(output: &str) -> Option<u64> {
    let lines = output.lines().rev().filter(|line| line.starts_with("drill "));
    let number = |text: &str| text.trim_end_matches(',').parse().ok();
    lines.flat_map(|line| line.split([' ', '=']).zip(line.split([' ', '=']).skip(1))).find_map(
        |(name, text)| match name {
            "seed" => number(text),
            _ => None,
        },
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{seed, values};

    #[test]
    fn the_last_line_has_the_values() {
        let output = "broken 2 times: a rule\n    how\ndrill append: anomalies=2 appends=1234 rate=10.5 kind=some\n";
        let expected = json!({"anomalies": 2, "appends": 1234, "rate": 10.5, "kind": "some"});
        assert_eq!(values(output).map(Into::into), Some(expected));
    }

    #[test]
    fn kinds_of_anomalies_are_added_up() {
        let expected = json!({"skipped": 1, "out_of_order": 0, "duplicates": 2, "events": 9, "anomalies": 3});
        let line = "drill consume: skipped=1 out_of_order=0 duplicates=2 events=9\n";
        assert_eq!(values(line).map(Into::into), Some(expected));
        assert!(values("drill consume: skipped=1 events=9\n").is_none());
    }

    #[test]
    fn a_seed_is_kept_wherever_it_is_told() {
        assert_eq!(seed("drill append: anomalies=0 seed=18446744073709551615 appends=5\n"), Some(u64::MAX));
        let first = "drill append: 32 writers in 4 processes, 20 s, seed 7, broken by no-lock\nanother line\n";
        assert_eq!(seed(&format!("{first}drill append: anomalies=0 appends=5\n")), Some(7));
        assert_eq!(seed("drill failover: 6 rounds, seed 12\ndrill failover: anomalies=0\n"), Some(12));
        assert_eq!(seed("drill soak: round 3 of seed 9, 2 runs at once\ndrill soak: anomalies=0\n"), Some(9));
        assert_eq!(seed("held: drill append: drill append: anomalies=0 seed=7\ndrill soak: anomalies=0\n"), None);
        assert_eq!(seed("drill append: anomalies=0 seed=none\n"), None);
    }

    #[test]
    fn a_soak_says_it_in_the_same_way() {
        let output = "broken: drill append --seconds 12: it has not ended\n    drill x: anomalies=9\n\
                      drill soak: anomalies=1 rounds=9 undecided=0 minutes=10 seed=3 again=\"drill soak --seed 3 --round 4\"\n";
        let expected = json!({"anomalies": 1, "rounds": 9, "undecided": 0, "minutes": 10, "seed": 3});
        assert_eq!(values(output).map(Into::into), Some(expected));
    }

    #[test]
    fn anything_else_has_none() {
        assert!(values("drill append: 32 writers in 4 processes\n").is_none());
        assert!(values("").is_none());
        assert!(values("compare append: anomalies=1\n").is_none());
    }
}
