//! Times as JSON and on the command line.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A time in whole microseconds: `2026-01-31T12:00:00.123456Z`, or, for years outside the range of this form, the number
/// of microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) SystemTime);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Timestamp::try_from(self.0) {
            Ok(time) => write!(f, "{time:.6}"),
            Err(_) => write!(f, "{}", micros(self.0)),
        }
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(micros) = text.parse() {
            return from_micros(micros).map(Self).ok_or_else(|| format!("{text} microseconds are out of range"));
        }
        let time: Timestamp =
            text.parse().map_err(|_| format!("{text:?} is not a time such as 2026-01-31T12:00:00Z"))?;
        Ok(Self(time.into()))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match Timestamp::try_from(self.0) {
            Ok(_) => serializer.collect_str(self),
            Err(_) => serializer.serialize_i64(micros(self.0)),
        }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time such as \"2026-01-31T12:00:00Z\", or microseconds since 1970")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, micros: i64) -> Result<Time, E> {
                from_micros(micros).map(Time).ok_or_else(|| E::custom("microseconds out of range"))
            }

            fn visit_u64<E: de::Error>(self, micros: u64) -> Result<Time, E> {
                self.visit_i64(i64::try_from(micros).map_err(E::custom)?)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

fn micros(time: SystemTime) -> i64 {
    let whole = |distance: Duration| i64::try_from(distance.as_micros()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => whole(since),
        Err(before) => -whole(before.duration()),
    }
}

fn from_micros(micros: i64) -> Option<SystemTime> {
    let distance = Duration::from_micros(micros.unsigned_abs());
    match micros < 0 {
        true => SystemTime::UNIX_EPOCH.checked_sub(distance),
        false => SystemTime::UNIX_EPOCH.checked_add(distance),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_of_a_log_comes_back() {
        for (micros, json) in [
            (0, r#""1970-01-01T00:00:00.000000Z""#),
            (-1, r#""1969-12-31T23:59:59.999999Z""#),
            (1_769_860_800_123_456, r#""2026-01-31T12:00:00.123456Z""#),
            (9_223_372_036_854_775_806, "9223372036854775806"),
            (-210_866_803_200_000_000, r#""-004713-11-24T00:00:00.000000Z""#),
        ] {
            let time = Time(from_micros(micros).unwrap());
            assert_eq!(serde_json::to_string(&time).unwrap(), json);
            assert_eq!(serde_json::from_str::<Time>(json).unwrap(), time);
        }
    }
}
