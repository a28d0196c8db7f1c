//! How values are sent to the server and back.

use std::{error::Error as StdError, time::SystemTime};

use bytes::{BufMut, BytesMut};
use tokio_postgres::{
    Row,
    types::{FromSql, IsNull, ToSql, Type, to_sql_checked},
};
use uuid::Uuid;

use super::array::Texts;
use crate::{
    error::{Error, ErrorKind, Result},
    event::{
        Event, EventId, LabelsBuilder, Mark, Payload, StreamPlace,
        time::{floor_micros, from_micros},
    },
    json::Json,
};

/// The time from 1970, where our microseconds begin, to 2000, where PostgreSQL's do.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800 * 1_000_000;

/// Why a value in the server's answer cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("a column is not what it should be")]
    Column(#[source] Failure),
    #[error("an array says that it has {0} elements, and there is not room for them in its bytes")]
    Array(i32),
    #[error("the elements of an array do not end where it ends")]
    Elements,
    #[error("an array of {0} dimensions, where it should have one")]
    Dimensions(i32),
    #[error("{0} is there and what belongs to it is not, or the other way round")]
    Half(&'static str),
    #[error("{0} is null")]
    Null(&'static str),
    #[error("{0} is not an amount")]
    Amount(i64),
    #[error("an unknown version of jsonb's binary format")]
    JsonbVersion,
    #[error("{0} is not a position")]
    Position(i64),
    #[error("{0} microseconds since 1970 are beyond this platform's clock")]
    Time(i64),
}

impl From<tokio_postgres::Error> for Unreadable {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Column(error.into())
    }
}

/// The error type of the driver's traits.
pub(super) type Failure = Box<dyn StdError + Sync + Send>;

/// The columns of a row: of the driver's rows, or, in tests of hostile input, of bytes that no server would send.
pub(super) trait Columns {
    fn get<'a, T: FromSql<'a>>(&'a self, column: usize) -> Result<T, Unreadable>;

    fn is_null(&self, column: usize) -> Result<bool, Unreadable> {
        Ok(self.get::<Option<Anything>>(column)?.is_none())
    }
}

impl Columns for Row {
    fn get<'a, T: FromSql<'a>>(&'a self, column: usize) -> Result<T, Unreadable> {
        Ok(self.try_get(column)?)
    }
}

/// A value that is present, whatever it is.
#[derive(Debug)]
struct Anything;

impl<'a> FromSql<'a> for Anything {
    fn from_sql(_: &Type, _: &'a [u8]) -> Result<Self, Failure> {
        Ok(Self)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// JSON text sent to and read from `jsonb` unchanged: the server parses it, so nothing else must.
#[derive(Clone, Copy, Debug)]
pub(super) struct JsonText<'a>(pub(super) &'a str);

/// The version of the binary format of `jsonb`: text follows this byte.
const JSONB_VERSION: u8 = 1;

impl ToSql for JsonText<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        out.put_u8(JSONB_VERSION);
        out.put_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSONB
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for JsonText<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        match raw.split_first() {
            Some((&JSONB_VERSION, text)) => Ok(Self(std::str::from_utf8(text)?)),
            _ => Err(Unreadable::JsonbVersion.into()),
        }
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSONB
    }
}

/// A time in microseconds since 1970, as `timestamptz`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Micros(pub(super) i64);

impl ToSql for Micros {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        out.put_i64(self.0.saturating_sub(POSTGRES_EPOCH_MICROS));
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Micros {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?).saturating_add(POSTGRES_EPOCH_MICROS)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

impl Micros {
    pub(super) fn of(time: SystemTime) -> Self {
        Self(floor_micros(time))
    }

    pub(super) fn time(self) -> Result<SystemTime, Unreadable> {
        from_micros(self.0).ok_or(Unreadable::Time(self.0))
    }
}

/// Positions and versions are `bigint`, and never negative.
pub(super) fn position(value: i64) -> Result<u64, Unreadable> {
    u64::try_from(value).map_err(|_| Unreadable::Position(value))
}

/// Positions beyond `bigint` are beyond every log.
pub(super) fn position_param(position: u64) -> i64 {
    i64::try_from(position).unwrap_or(i64::MAX)
}

/// Counts are never negative.
pub(super) fn amount(value: i64) -> Result<u64, Unreadable> {
    u64::try_from(value).map_err(|_| Unreadable::Amount(value))
}

/// A mark from two columns that are both present or both absent.
pub(super) fn mark(row: &impl Columns, first: usize) -> Result<Option<Mark>, Unreadable> {
    match (row.get::<Option<i64>>(first)?, row.get::<Option<Uuid>>(first + 1)?) {
        (Some(at), Some(id)) => Ok(Some(Mark::new(position(at)?, EventId::from(id)))),
        (None, None) => Ok(None),
        _ => Err(Unreadable::Half("the position or the id of an event")),
    }
}

/// A checkpoint; the beginning is 0 without an id.
pub(super) fn checkpoint(row: &impl Columns, first: usize) -> Result<Option<Mark>, Unreadable> {
    match (row.get::<i64>(first)?, row.get::<Option<Uuid>>(first + 1)?) {
        (0, None) => Ok(None),
        (at @ 1.., Some(id)) => Ok(Some(Mark::new(position(at)?, EventId::from(id)))),
        (at @ ..0, _) => Err(Unreadable::Position(at)),
        _ => Err(Unreadable::Half("the position or the id of a checkpoint")),
    }
}

/// A row of a statement that reads.
#[derive(Debug)]
pub(super) enum Line {
    /// The event that the log ends with, or ended with.
    Head(Mark),
    Event(Event),
}

/// The columns that, in a row of a statement that reads, an event has and a head has not, after the event's type.
const OF_EVENTS: std::ops::RangeInclusive<usize> = 3..=10;

/// The content of a row: an event, unless all of an event's columns are absent.
pub(super) fn line(row: &impl Columns) -> Result<Line, Unreadable> {
    let mark = Mark::new(position(row.get(0)?)?, EventId::from(row.get::<Uuid>(1)?));
    let Some(event_type) = row.get::<Option<&str>>(2)? else {
        // An event without its type would be mistaken for the end of the log.
        for column in OF_EVENTS {
            if !row.is_null(column)? {
                return Err(Unreadable::Null("the type of an event"));
            }
        }
        return Ok(Line::Head(mark));
    };
    let tags = row.get::<Texts<'_>>(3)?;
    let mut labels = LabelsBuilder::new(event_type, tags.byte_len());
    tags.each(|tag| labels.push(tag))?;
    let json = |column| row.get::<JsonText<'_>>(column).map(|json| Json::from_stored(json.0));
    Ok(Line::Event(Event {
        position: mark.position(),
        id: mark.id(),
        labels: labels.finish(),
        payload: match row.get::<Option<&str>>(8)? {
            None if row.is_null(9)? => Payload::Json(json(4)?),
            Some(content_type) if row.is_null(4)? => Payload::bytes(content_type, row.get::<&[u8]>(9)?),
            _ => return Err(Unreadable::Half("the bytes of a payload or their content type")),
        },
        metadata: json(5)?,
        occurred_at: row.get::<Micros>(6)?.time()?,
        recorded_at: row.get::<Micros>(7)?.time()?,
        stream: match (row.get::<Option<&str>>(10)?, row.get::<Option<i64>>(11)?) {
            (None, None) => None,
            (Some(id), Some(version)) => Some(StreamPlace::new(id, position(version)?)),
            _ => return Err(Unreadable::Half("the stream of an event or its version")),
        },
    }))
}

/// The version in a row of a statement that reads.
pub(super) fn version(row: &impl Columns) -> Result<u64, Unreadable> {
    position(row.get(11)?)
}

/// Checks that no event is after the head, since an answer is of one moment: otherwise, a row that was left out would
/// make a log with events look empty.
pub(super) fn up_to_head(head: Option<Mark>, events: &[Event]) -> Result<()> {
    let end = Mark::position_or_zero(head);
    if events.iter().any(|event| event.position > end) { Err(no_row()) } else { Ok(()) }
}

/// The error for a row that is missing, or is where it should not be.
pub(super) fn no_row() -> Error {
    Error::new(ErrorKind::Schema, "the server's answer does not have the rows that the statement promises")
}

/// The error for a row that is not what the statement promises: somebody changed the tables, or the statement's file.
pub(super) fn unreadable(cause: Unreadable) -> Error {
    Error::new(ErrorKind::Schema, "the server's answer cannot be read: are these the tables of this version?")
        .with_source(cause)
}
