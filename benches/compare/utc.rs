//! A time as text, for the benchmarks, the peers' programs (a separate package) and the report alike: a library for these few lines
//! would be built with every test of the crate.

use std::time::{SystemTime, SystemTimeError};

/// As in RFC 3339, to the microsecond.
pub(crate) fn utc(time: SystemTime) -> Result<String, SystemTimeError> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH)?;
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Years that begin in March, in eras of 400, as the calendar repeats.
    let (era, day) = ((days + 719_468) / 146_097, (days + 719_468) % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = era * 400 + year + u64::from(month < 3);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    Ok(format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z", since.subsec_micros()))
}
