//! Positions of values on an axis, and its tick labels.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// From zero.
    Linear,
    /// From one power of ten to another. Values at or below zero have no place on it.
    Log,
}

#[derive(Clone, Debug)]
pub(crate) struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    step: f64,
}

/// The approximate number of ticks on a linear axis.
const TICKS: f64 = 6.0;

impl Axis {
    /// An axis that covers all values. None if there are no values.
    pub(crate) fn over(scale: Scale, values: impl Iterator<Item = f64>) -> Option<Self> {
        let fits = |value: &f64| value.is_finite() && (scale == Scale::Linear || *value > 0.0);
        let (low, high) = values
            .filter(fits)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return None;
        }
        Some(match scale {
            Scale::Linear => {
                let step = step(high.max(f64::MIN_POSITIVE));
                Self { scale, low: 0.0, high: (high / step).ceil().max(1.0) * step, step }
            }
            Scale::Log => {
                let (low, high) = (low.log10().floor(), high.log10().ceil());
                Self { scale, low: 10_f64.powf(low), high: 10_f64.powf(high.max(low + 1.0)), step: 0.0 }
            }
        })
    }

    pub(crate) fn low(&self) -> f64 {
        self.low
    }

    /// The position of a value, from 0 at the beginning of the axis to 1 at its end.
    pub(crate) fn part(&self, value: f64) -> f64 {
        let part = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value.max(self.low) / self.low).log10() / (self.high / self.low).log10(),
        };
        part.clamp(0.0, 1.0)
    }

    /// The ticks: values and their labels.
    pub(crate) fn ticks(&self) -> Vec<(f64, String)> {
        let mut ticks = Vec::new();
        match self.scale {
            Scale::Linear => {
                let count = (self.high / self.step).round();
                let mut number = 0.0;
                while number <= count {
                    ticks.push(number * self.step);
                    number += 1.0;
                }
            }
            Scale::Log => {
                let mut value = self.low;
                while value <= self.high * 1.01 {
                    ticks.push(value);
                    value *= 10.0;
                }
            }
        }
        ticks.into_iter().map(|value| (value, label(value))).collect()
    }
}

/// 1, 2 or 5 times a power of ten.
fn step(high: f64) -> f64 {
    let rough = high / TICKS;
    let power = 10_f64.powf(rough.log10().floor());
    let nice = [1.0, 2.0, 5.0, 10.0].into_iter().find(|nice| nice * power >= rough * 0.999);
    nice.unwrap_or(10.0) * power
}

fn label(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{} M", trimmed(value / 1e6)),
        _ if value >= 1e4 => format!("{} k", trimmed(value / 1e3)),
        _ => trimmed(value),
    }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale, values: &[f64]) -> Vec<String> {
        Axis::over(scale, values.iter().copied()).unwrap().ticks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn linear_axes_begin_at_zero_and_have_round_steps() {
        assert_eq!(labels(Scale::Linear, &[3.0, 10.0]), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(labels(Scale::Linear, &[23_000.0]), ["0", "5000", "10 k", "15 k", "20 k", "25 k"]);
        assert_eq!(labels(Scale::Linear, &[0.12]), ["0", "0.02", "0.04", "0.06", "0.08", "0.1", "0.12"]);
    }

    #[test]
    fn logarithmic_axes_have_powers_of_ten() {
        assert_eq!(labels(Scale::Log, &[0.3, 250.0]), ["0.1", "1", "10", "100", "1000"]);
        let axis = Axis::over(Scale::Log, [1.0, 100.0].into_iter()).unwrap();
        assert!((axis.part(10.0) - 0.5).abs() < 1e-9);
        assert_eq!(axis.part(0.0).to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn no_value_no_axis() {
        assert!(Axis::over(Scale::Linear, [].into_iter()).is_none());
        assert!(Axis::over(Scale::Log, [0.0].into_iter()).is_none());
        assert!(Axis::over(Scale::Linear, [f64::NAN].into_iter()).is_none());
    }
}
