//! JSON numbers as PostgreSQL's `numeric` compares them: by value, exactly.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
};

/// `numeric` holds this many digits before the decimal point …
const MAX_INTEGER_DIGITS: i64 = 131_072;
/// … and this many after it, trailing zeros included.
const MAX_SCALE: i64 = 16_383;
/// The server rejects a larger exponent as malformed, whatever the digits are.
const MAX_EXPONENT: i64 = (i32::MAX / 2) as i64;

/// A JSON number as sign × digits × 10^exponent, with no zero at either end of the digits, so every value has exactly
/// one form. The digits are `high` followed by `low`: it borrows from a text that may have a point in between.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decimal<'a> {
    negative: bool,
    high: &'a str,
    low: &'a str,
    exponent: i64,
}

impl<'a> Decimal<'a> {
    /// Reads a text that follows JSON's grammar of numbers.
    pub(super) fn new(text: &'a str) -> Self {
        let parts = Parts::new(text);
        let (mut high, mut low) = (parts.integer, parts.fraction.trim_end_matches('0'));
        // Only stored text that no server wrote can saturate this.
        let mut exponent = parts.exponent.saturating_sub(len(low));
        if low.is_empty() {
            high = high.trim_end_matches('0');
            exponent = parts.exponent.saturating_add(len(parts.integer) - len(high));
        }
        high = high.trim_start_matches('0');
        if high.is_empty() {
            low = low.trim_start_matches('0');
        }
        if high.is_empty() && low.is_empty() {
            // There is one zero: neither its sign nor its exponent matters.
            return Self { negative: false, high: "", low: "", exponent: 0 };
        }
        Self { negative: parts.negative, high, low, exponent }
    }

    fn digits(&self) -> impl Iterator<Item = u8> + 'a {
        self.high.bytes().chain(self.low.bytes())
    }

    fn digit_count(&self) -> i64 {
        len(self.high) + len(self.low)
    }
}

impl PartialEq for Decimal<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.negative == other.negative
            && self.exponent == other.exponent
            && self.digit_count() == other.digit_count()
            && self.digits().eq(other.digits())
    }
}

/// The canonical text: equal numbers have the same one. Plain while that is short, with an exponent beyond.
impl fmt::Display for Decimal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.digit_count();
        if count == 0 {
            return f.write_char('0');
        }
        if self.negative {
            f.write_char('-')?;
        }
        // The number of digits before the decimal point.
        let point = count.saturating_add(self.exponent);
        if !(-5..=21).contains(&point) {
            self.digits().try_for_each(|digit| f.write_char(digit.into()))?;
            return write!(f, "e{}", self.exponent);
        }
        if point <= 0 {
            f.write_str("0.")?;
            (point..0).try_for_each(|_| f.write_char('0'))?;
        }
        for (index, digit) in (0..).zip(self.digits()) {
            if index == point && index > 0 {
                f.write_char('.')?;
            }
            f.write_char(digit.into())?;
        }
        (count..point).try_for_each(|_| f.write_char('0'))
    }
}

/// Whether the text is a whole number that is its own canonical form, as nearly all are.
pub(super) fn is_plain(text: &str) -> bool {
    let digits = text.as_bytes();
    (1..=18).contains(&digits.len())
        && digits.iter().all(u8::is_ascii_digit)
        && (digits[0] != b'0' || digits.len() == 1)
}

/// Returns the canonical text.
pub(super) fn canonical(text: &str) -> Cow<'_, str> {
    if is_plain(text) { text.into() } else { Decimal::new(text).to_string().into() }
}

/// Returns what is wrong with a number that `numeric` cannot hold.
pub(super) fn refuse(text: &str) -> Option<&'static str> {
    let parts = Parts::new(text);
    let value = Decimal::new(text);
    if parts.exponent.abs() >= MAX_EXPONENT || value.digit_count().saturating_add(value.exponent) > MAX_INTEGER_DIGITS {
        return Some("the number has more than 131072 digits before the decimal point, which PostgreSQL cannot store");
    }
    if len(parts.fraction) - parts.exponent > MAX_SCALE {
        return Some("the number has more than 16383 digits after the decimal point, which PostgreSQL cannot store");
    }
    None
}

/// Returns the number as the server writes it, with as many digits after the point as it was given. A number that the
/// server would reject stays as it is: written out, it might have any length.
pub(super) fn written_out(text: &str) -> Cow<'_, str> {
    if is_plain(text) || refuse(text).is_some() {
        return text.into();
    }
    let parts = Parts::new(text);
    let digits = || parts.integer.bytes().chain(parts.fraction.bytes()).map(char::from);
    let amount = |digits: i64| usize::try_from(digits).unwrap_or_default();
    let (point, scale) = (len(parts.integer) + parts.exponent, amount(len(parts.fraction) - parts.exponent));
    let is_zero = digits().all(|digit| digit == '0');
    // A zero is one digit before the point, wherever that was.
    let before: String = if is_zero { String::new() } else { digits().take(amount(point)).collect() };
    let padding = if is_zero { 0 } else { amount(point - len(parts.integer) - len(parts.fraction)) };
    let before = [before.trim_start_matches('0'), &"0".repeat(padding)].concat();
    let mut written = String::new();
    written.push_str(if parts.negative && !is_zero { "-" } else { "" });
    written.push_str(if before.is_empty() { "0" } else { &before });
    if scale > 0 {
        written.push('.');
        let zeros = if is_zero { scale } else { amount(-point) };
        written.extend(std::iter::repeat_n('0', zeros));
        if !is_zero {
            written.extend(digits().skip(amount(point)));
        }
    }
    written.into()
}

/// How many bytes the server writes for a number: it uses no exponents.
pub(super) fn written_out_len(text: &str) -> usize {
    let parts = Parts::new(text);
    let value = Decimal::new(text);
    let before = value.digit_count().saturating_add(value.exponent).max(1);
    let after = match len(parts.fraction) - parts.exponent {
        scale if scale > 0 => scale.saturating_add(1),
        _ => 0,
    };
    let sign = i64::from(value.negative);
    usize::try_from(before.saturating_add(after).saturating_add(sign)).unwrap_or(usize::MAX)
}

/// The pieces of a number's text.
struct Parts<'a> {
    negative: bool,
    integer: &'a str,
    fraction: &'a str,
    exponent: i64,
}

impl<'a> Parts<'a> {
    fn new(text: &'a str) -> Self {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        // Half of the range leaves room for the arithmetic; such a long exponent is rejected anyway.
        let limit = i64::MAX / 2;
        let beyond = if exponent.starts_with('-') { -limit } else { limit };
        let exponent = exponent.parse().unwrap_or(beyond);
        Self { negative, integer, fraction, exponent: exponent.clamp(-limit, limit) }
    }
}

fn len(digits: &str) -> i64 {
    i64::try_from(digits.len()).unwrap_or(i64::MAX / 4)
}
