//! The median, the lowest and the highest of some values, and how they are kept. A missing value (NaN) is never skipped, as `f64::min` would: any
//! result from it is missing, too.

use serde_json::{Value, json};

/// The middle value, or the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    if values.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.len() % 2, values.get(middle.wrapping_sub(1)), values.get(middle)) {
        (0, Some(below), Some(above)) => f64::midpoint(*below, *above),
        (_, _, Some(value)) => *value,
        _ => f64::NAN,
    }
}

/// NaN if there are no values.
pub(crate) fn lowest(values: impl IntoIterator<Item = f64>) -> f64 {
    chosen(values, f64::min)
}

pub(crate) fn highest(values: impl IntoIterator<Item = f64>) -> f64 {
    chosen(values, f64::max)
}

fn chosen(values: impl IntoIterator<Item = f64>, choose: fn(f64, f64) -> f64) -> f64 {
    let either = |one: f64, other: f64| if one.is_nan() || other.is_nan() { f64::NAN } else { choose(one, other) };
    values.into_iter().reduce(either).unwrap_or(f64::NAN)
}

/// As a number with five significant digits; null if there is no value.
pub(crate) fn digits(value: f64) -> Value {
    format!("{value:.4e}")
        .parse::<f64>()
        .ok()
        .filter(|value| value.is_finite())
        .map_or(Value::Null, |value| json!(value))
}
