//! Times as the log holds them: whole microseconds since 1970, as a signed 64-bit number.

use std::time::{Duration, SystemTime};

/// One past the first moment of PostgreSQL's `timestamptz` (24 November 4714 BC), so a bound can lie below every event
/// and still be sent.
pub(crate) const MIN_MICROS: i64 = -210_866_803_200_000_000 + 1;
/// One before the last microsecond that 64 bits count from 1970 (10 January 294247), which PostgreSQL still holds: so a
/// bound can lie above every event.
pub(crate) const MAX_MICROS: i64 = i64::MAX - 1;

/// The microsecond that contains a time; times beyond 64 bits saturate.
pub(crate) fn floor_micros(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => whole(since),
        Err(before) => -rounded_up(before.duration()),
    }
}

/// The first whole microsecond that is not before a time; times beyond 64 bits saturate.
pub(crate) fn ceil_micros(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => rounded_up(since),
        Err(before) => -whole(before.duration()),
    }
}

/// The time of a microsecond, unless this platform's clock type cannot hold it.
pub(crate) fn from_micros(micros: i64) -> Option<SystemTime> {
    let distance = Duration::from_micros(micros.unsigned_abs());
    if micros < 0 { SystemTime::UNIX_EPOCH.checked_sub(distance) } else { SystemTime::UNIX_EPOCH.checked_add(distance) }
}

fn whole(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn rounded_up(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos().div_ceil(1_000)).unwrap_or(i64::MAX)
}
