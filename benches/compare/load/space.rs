//! Bytes for each event: of a table, of its indexes, and of the write-ahead log.

use serde_json::{Value, json};

use crate::stats::digits;

/// Of fewer events nothing can be told: a page more or less, or a page image of the write-ahead log, is too much of it.
pub(crate) const ENOUGH: u64 = 1000;

pub(crate) const TOO_SHORT: &str = "too short to tell";
pub(crate) const OLD_ROOM: &str = "went into room in pages that were there";

/// What was there at a moment, in bytes. Of the write-ahead log, all that was ever written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes {
    pub(crate) table: u64,
    pub(crate) indexes: u64,
    pub(crate) wal: u64,
}

/// Rows that have come between two looks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rows {
    pub(crate) events: u64,
    /// Bytes that they take in the table at least, wherever in it they are.
    pub(crate) least: u64,
}

/// What some events have brought.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Growth {
    bytes: Bytes,
    rows: Rows,
}

/// The same for each event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PerEvent {
    pub(crate) table: f64,
    pub(crate) indexes: f64,
    pub(crate) wal: f64,
    /// Of its row, at least.
    pub(crate) least: f64,
    events: u64,
}

impl Growth {
    pub(crate) fn add(&mut self, before: Bytes, after: Bytes, rows: Rows) {
        self.bytes.table += after.table.saturating_sub(before.table);
        self.bytes.indexes += after.indexes.saturating_sub(before.indexes);
        self.bytes.wal += after.wal.saturating_sub(before.wal);
        self.rows.events += rows.events;
        self.rows.least += rows.least;
    }

    /// None of no events.
    pub(crate) fn per_event(self) -> Option<PerEvent> {
        let Rows { events, least } = self.rows;
        let each = |bytes: u64| bytes as f64 / events as f64;
        let Bytes { table, indexes, wal } = self.bytes;
        let (table, indexes, wal, least) = (each(table), each(indexes), each(wal), each(least));
        (events > 0).then_some(PerEvent { table, indexes, wal, least, events })
    }
}

impl PerEvent {
    /// All that stays on the disk.
    pub(crate) fn disk(self) -> f64 {
        self.table + self.indexes
    }

    /// Why its bytes on disk are not those of its events. A table that has grown by less than its new rows take had room for the
    /// others: ends of pages that larger rows had left. That room was paid for before.
    pub(crate) fn fault(self) -> Option<&'static str> {
        match self {
            _ if self.events < ENOUGH => Some(TOO_SHORT),
            _ if self.table < self.least => Some(OLD_ROOM),
            _ => None,
        }
    }

    /// As the files have it.
    pub(crate) fn json(self) -> Value {
        let Self { table, indexes, wal, least, events } = self;
        let [table, indexes, disk, wal, least] = [table, indexes, self.disk(), wal, least].map(digits);
        let mut of = json!({
            "table": table, "indexes": indexes, "disk": disk, "wal": wal, "row_at_least": least, "events": events,
        });
        if let Some(fault) = self.fault() {
            of["left_out"] = json!(fault);
        }
        of
    }
}

/// One load, beside the same events in the origin's table.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub(crate) label: String,
    /// Of its events: those of the library, if they have no size of their own.
    pub(crate) payload: Option<u64>,
    pub(crate) ours: PerEvent,
    pub(crate) origin: PerEvent,
}

/// The highest of some ratios of points, NaN if there is none.
#[derive(Debug)]
pub(crate) struct Worst {
    pub(crate) value: f64,
    /// Which point, of how many, and without which.
    pub(crate) of: String,
    /// Points that were too short, so that they may be worse.
    pub(crate) incomplete: Option<String>,
}

impl Point {
    /// Beside the origin's table at all loads with such events. It gets them one by one whatever the load was, so what it takes for each is
    /// the same everywhere; but its indexes take room in steps, and have what the lists of those before have left. Which of the loads
    /// comes out as the worst would be chosen by that.
    fn disk(&self, all: &[Self]) -> Result<f64, &'static str> {
        match self.ours.fault().or_else(|| self.origin.fault()) {
            Some(fault) => Err(fault),
            None => Ok(self.ours.disk() / self.origin_disk(all)),
        }
    }

    fn origin_disk(&self, all: &[Self]) -> f64 {
        let alike = all.iter().filter(|other| other.payload == self.payload && other.origin.fault().is_none());
        let (bytes, events) = alike.fold((0.0, 0.0), |(bytes, events), Self { origin, .. }| {
            (bytes + origin.disk() * origin.events as f64, events + origin.events as f64)
        });
        bytes / events
    }

    /// Whoever finds room writes it to the log all the same. Images of pages are as many for both, in the rounds of a load, and not in those
    /// of another.
    fn wal(&self, _: &[Self]) -> Result<f64, &'static str> {
        let too_short = self.ours.events < ENOUGH || self.origin.events < ENOUGH;
        if too_short { Err(TOO_SHORT) } else { Ok(self.ours.wal / self.origin.wal) }
    }
}

/// Of bytes on disk, and of those of the write-ahead log.
pub(crate) fn worst(points: &[Point]) -> [Worst; 2] {
    [Point::disk, Point::wal].map(|ratio| {
        let (mut most, mut counted, mut without, mut short) = (None::<(f64, &str)>, 0_u64, Vec::new(), Vec::new());
        for point in points {
            match ratio(point, points) {
                Ok(value) if value.is_finite() => {
                    counted += 1;
                    if most.is_none_or(|(highest, _)| value > highest) {
                        most = Some((value, &point.label));
                    }
                }
                Ok(_) => short.push(format!("{}: no ratio", point.label)),
                Err(TOO_SHORT) => short.push(format!("{}: {TOO_SHORT}", point.label)),
                Err(fault) => without.push(format!("{}: {fault}", point.label)),
            }
        }
        let mut of = match most {
            Some(_) if points.len() == 1 => "of this load".to_owned(),
            Some((_, label)) => format!("the most of {counted} loads, at {label}"),
            None => TOO_SHORT.to_owned(),
        };
        if !without.is_empty() {
            of += &format!("; not counted: {}", without.join(", "));
        }
        let incomplete = (!short.is_empty()).then(|| short.join(", "));
        Worst { value: most.map_or(f64::NAN, |(value, _)| value), of, incomplete }
    })
}
