//! Conversion of values from text, and how errors name them.

use std::{str::FromStr, time::Duration};

use crate::Fallback;

pub(super) const NUMBER: &str = "a whole number from 0 on";
pub(super) const FROM_ONE: &str = "a whole number from 1 on";
pub(super) const BOOLEAN: &str = "true or false";
pub(super) const TIME: &str = "a time, such as 0s, 500ms, 5s, 2min or 1h";
pub(super) const LIMIT: &str = "a time above 0, such as 500ms, 5s, 2min or 1h";

pub(super) const LIMIT_OR_NONE: &str = "a time above 0, such as 500ms, 5s, 2min or 1h; or none";

/// The units of time, the largest first.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("min", 60_000), ("ms", 1), ("s", 1000)];

pub(super) fn number<N: FromStr>(text: &str) -> Option<N> {
    text.parse().ok()
}

pub(super) fn from_one(text: &str) -> Option<u32> {
    number(text).filter(|number| *number > 0)
}

pub(super) fn boolean(text: &str) -> Option<bool> {
    text.parse().ok()
}

/// A number without a unit is rejected: some take it for seconds, others for milliseconds.
pub(super) fn time(text: &str) -> Option<Duration> {
    let (number, milliseconds) = UNITS.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, size)))?;
    let number: u64 = number.trim_end().parse().ok()?;
    Some(Duration::from_millis(number.checked_mul(*milliseconds)?))
}

pub(super) fn limit(text: &str) -> Option<Duration> {
    time(text).filter(|time| !time.is_zero())
}

/// The outer `Option` is about the text.
pub(super) fn limit_or_none(text: &str) -> Option<Option<Duration>> {
    if text == "none" { Some(None) } else { limit(text).map(Some) }
}

pub(super) fn of_time(time: Duration) -> String {
    match time.as_millis() {
        millis if millis % 1000 == 0 => format!("{}s", millis / 1000),
        millis => format!("{millis}ms"),
    }
}

pub(super) fn of_fallback(fallback: Fallback) -> &'static str {
    match fallback {
        Fallback::Protect => "protect",
        Fallback::Unlimited => "unlimited",
        Fallback::Never => "never",
    }
}
