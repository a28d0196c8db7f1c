//! The last figures: the lowest ratio beside a store, and what is missing from it.
//!
//! A ratio that was not measured may be the lowest. So it is named instead of being skipped, and the lowest of the others
//! cannot be mistaken for the lowest of all.

use crate::stats::lowest;

/// Which of the last figures includes a row's ratios.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Counts {
    /// Only the one of all rows.
    EachRow,
    All,
    UmaDb,
}

/// The ratios of all rows so far.
#[derive(Debug, Default)]
pub(crate) struct Ratios {
    rows: Vec<(String, Counts)>,
    all: Vec<(&'static str, usize, f64)>,
}

/// The lowest of the measured ratios, NaN if there is none; and what was not measured.
#[derive(Clone, Debug)]
pub(crate) struct Worst {
    pub(crate) value: f64,
    pub(crate) lacks: Vec<String>,
}

impl Ratios {
    /// Begins the next row; its ratios are added after it.
    pub(crate) fn row(&mut self, title: &str, counts: Counts) {
        self.rows.push((title.to_owned(), counts));
    }

    pub(crate) fn add(&mut self, store: &'static str, value: f64) {
        self.all.push((store, self.rows.len(), value));
    }

    /// The lowest ratio beside one store, over the rows that count.
    pub(crate) fn worst(&self, store: &str, counts: &[Counts]) -> Worst {
        let (mut measured, mut lacks) = (Vec::new(), Vec::new());
        for (number, (title, _)) in (1..).zip(&self.rows).filter(|(_, (_, of))| counts.contains(of)) {
            let found = self.all.iter().find(|(of, row, _)| *of == store && *row == number);
            match found.map(|(.., value)| *value).filter(|value| value.is_finite()) {
                Some(value) => measured.push(value),
                None => lacks.push(format!("{store} in {title}")),
            }
        }
        Worst { value: lowest(measured), lacks }
    }
}

impl Worst {
    /// For a store that did not even begin.
    pub(crate) fn nothing_of(store: &str) -> Self {
        Self { value: f64::NAN, lacks: vec![store.to_owned()] }
    }

    /// The lowest of all of them.
    pub(crate) fn of(all: impl IntoIterator<Item = Self>) -> Self {
        let (mut measured, mut lacks) = (Vec::new(), Vec::new());
        for one in all {
            measured.extend(Some(one.value).filter(|value| value.is_finite()));
            lacks.extend(one.lacks);
        }
        Self { value: lowest(measured), lacks }
    }

    /// Why the value may be too good; none if it is complete.
    pub(crate) fn incomplete(&self) -> Option<String> {
        (!self.lacks.is_empty()).then(|| format!("no ratio beside {}", self.lacks.join(", ")))
    }
}
