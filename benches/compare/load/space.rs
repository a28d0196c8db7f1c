//! Bytes per event: of a table, of its indexes, and of the write-ahead log.

use serde_json::{Value, json};

use crate::stats::digits;

/// Fewer events give no meaningful size: a page more or less, or a page image in the write-ahead log, is too large a part of it.
pub(crate) const ENOUGH: u64 = 1000;

pub(crate) const TOO_SHORT: &str = "too short to tell";
pub(crate) const OLD_ROOM: &str = "went into room in pages that were there";

/// The sizes at a moment, in bytes. For the write-ahead log, everything ever written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes {
    pub(crate) table: u64,
    pub(crate) indexes: u64,
    pub(crate) wal: u64,
}

/// The rows added between two moments.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rows {
    pub(crate) events: u64,
    /// The least number of bytes they take in the table, wherever they are in it.
    pub(crate) least: u64,
}

/// What some events have added.
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
    /// The least that its row takes.
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

    /// None if there are no events.
    pub(crate) fn per_event(self) -> Option<PerEvent> {
        let Rows { events, least } = self.rows;
        let each = |bytes: u64| bytes as f64 / events as f64;
        let Bytes { table, indexes, wal } = self.bytes;
        let (table, indexes, wal, least) = (each(table), each(indexes), each(wal), each(least));
        (events > 0).then_some(PerEvent { table, indexes, wal, least, events })
    }
}

impl PerEvent {
    /// Everything that stays on disk.
    pub(crate) fn disk(self) -> f64 {
        self.table + self.indexes
    }

    /// Why its bytes on disk are not those of its events. If a table has grown by less than its new rows take, the others went into existing
    /// space: ends of pages that larger rows had left. That space was paid for before.
    pub(crate) fn fault(self) -> Option<&'static str> {
        match self {
            _ if self.events < ENOUGH => Some(TOO_SHORT),
            _ if self.table < self.least => Some(OLD_ROOM),
            _ => None,
        }
    }

    /// As in the files.
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

/// One load, compared with the same events in the origin's table.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub(crate) label: String,
    /// The size of its events' payloads; none for the library's own.
    pub(crate) payload: Option<u64>,
    pub(crate) ours: PerEvent,
    pub(crate) origin: PerEvent,
}

/// The highest of the points' ratios, NaN if there is none.
#[derive(Debug)]
pub(crate) struct Worst {
    pub(crate) value: f64,
    /// Which point it is, of how many, and which are left out.
    pub(crate) of: String,
    /// Points that were too short; with them the value could be worse.
    pub(crate) incomplete: Option<String>,
}

impl Point {
    /// Compared with the origin's table over all loads with such events. The origin gets the events one by one whatever the load, so each
    /// takes the same space everywhere. But its indexes grow in steps, and include pending entries from earlier loads. Comparing load by
    /// load would let that decide which load comes out as the worst.
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

    /// Rows that go into existing space are written to the WAL all the same. Both sides have the same number of page images within the
    /// rounds of one load, but not within those of another.
    fn wal(&self, _: &[Self]) -> Result<f64, &'static str> {
        let too_short = self.ours.events < ENOUGH || self.origin.events < ENOUGH;
        if too_short { Err(TOO_SHORT) } else { Ok(self.ours.wal / self.origin.wal) }
    }
}

/// The worst ratios: of bytes on disk, and of bytes in the write-ahead log.
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
