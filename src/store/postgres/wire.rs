//! How values travel to the server and back.

use std::{error::Error as StdError, time::SystemTime};

use bytes::{BufMut, BytesMut};
use tokio_postgres::{
    Row,
    types::{FromSql, IsNull, ToSql, Type, to_sql_checked},
};
use uuid::Uuid;

use crate::{
    error::{Error, ErrorKind, Result},
    event::{
        Event, EventId, Mark, Payload, StreamPlace,
        time::{floor_micros, from_micros},
    },
    json::Json,
};

/// The seconds from 1970, where our microseconds begin, to 2000, where PostgreSQL's do.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800 * 1_000_000;

/// Why a value of the server's answer cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("a column is not what it should be")]
    Column(#[from] tokio_postgres::Error),
    #[error("an unknown version of jsonb's binary format")]
    JsonbVersion,
    #[error("{0} is not a position")]
    Position(i64),
    #[error("{0} microseconds since 1970 are beyond this platform's clock")]
    Time(i64),
}

/// What the driver's traits call an error.
type Failure = Box<dyn StdError + Sync + Send>;

/// JSON text that goes to and comes from `jsonb` as it is: the server parses it, so nobody else has to.
#[derive(Clone, Copy, Debug)]
pub(super) struct JsonText<'a>(pub(super) &'a str);

/// The version of the binary format of `jsonb`: text behind this byte.
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
        out.put_i64(self.0 - POSTGRES_EPOCH_MICROS);
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

/// A mark from two columns that are both there or both not.
pub(super) fn mark(row: &Row, first: usize) -> Result<Option<Mark>, Unreadable> {
    let at: Option<i64> = row.try_get(first)?;
    let id: Option<Uuid> = row.try_get(first + 1)?;
    Ok(match (at, id) {
        (Some(at), Some(id)) => Some(Mark::new(position(at)?, EventId::from(id))),
        _ => None,
    })
}

/// A row of a statement that reads.
#[derive(Debug)]
pub(super) enum Line {
    /// The event that the log ends with, or ended with.
    Head(Mark),
    Event(Event),
}

/// What is in a row: an event, unless it has no type.
pub(super) fn line(row: &Row) -> Result<Line, Unreadable> {
    let mark = Mark::new(position(row.try_get(0)?)?, EventId::from(row.try_get::<_, Uuid>(1)?));
    let Some(event_type) = row.try_get::<_, Option<&str>>(2)? else { return Ok(Line::Head(mark)) };
    let tags: Vec<&str> = row.try_get(3)?;
    let json = |column| row.try_get::<_, JsonText<'_>>(column).map(|json| Json::from_stored(json.0));
    Ok(Line::Event(Event {
        position: mark.position(),
        id: mark.id(),
        event_type: event_type.into(),
        tags: tags.into_iter().map(Into::into).collect(),
        payload: match row.try_get::<_, Option<&str>>(8)? {
            None => Payload::Json(json(4)?),
            Some(content_type) => Payload::bytes(content_type, row.try_get::<_, &[u8]>(9)?),
        },
        metadata: json(5)?,
        occurred_at: row.try_get::<_, Micros>(6)?.time()?,
        recorded_at: row.try_get::<_, Micros>(7)?.time()?,
        stream: match row.try_get::<_, Option<&str>>(10)? {
            None => None,
            Some(id) => Some(StreamPlace::new(id, position(row.try_get(11)?)?)),
        },
    }))
}

/// The version in a row of a statement that reads.
pub(super) fn version(row: &Row) -> Result<u64, Unreadable> {
    position(row.try_get(11)?)
}

/// A row is missing, or is where it should not be.
pub(super) fn no_row() -> Error {
    Error::new(ErrorKind::Schema, "the server's answer does not have the rows that the statement promises")
}

/// A row that is not what the statement promises: somebody changed the tables, or the statement's file.
pub(super) fn unreadable(cause: Unreadable) -> Error {
    Error::new(ErrorKind::Schema, "the server's answer cannot be read: are these the tables of this version?")
        .with_source(cause)
}

/// Not for users: what `fuzz/` throws bytes at. The driver reads the other columns.
#[cfg(feature = "testing")]
#[doc(hidden)]
pub fn __column(bytes: &[u8]) {
    let _ = JsonText::from_sql(&Type::JSONB, bytes).map(|json| Json::from_stored(json.0).to_string());
    let _ = Micros::from_sql(&Type::TIMESTAMPTZ, bytes).map(Micros::time);
    let _ = bytes.try_into().map(|bytes| position(i64::from_be_bytes(bytes)));
}
