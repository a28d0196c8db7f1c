//! What must hold for any bytes.

use bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type};
use uuid::Uuid;

use super::Raw;
use crate::{
    Event, Json, Mark,
    event::time::floor_micros,
    store::postgres::{
        append::{
            answer::{Answer, AppendOutcome, Sent},
            precheck::PrecheckRow,
        },
        consumer::{Pulse, claimed, partition, pulse, skipped},
        snapshot::{Loaded, SaveAnswer},
        wire::{self, JsonText, Line, Micros},
    },
};

const TEXTS: Type = Type::TEXT_ARRAY;
const NUMBERS: Type = Type::INT8_ARRAY;
const TIME: Type = Type::TIMESTAMPTZ;

/// The columns of a statement that reads.
pub(super) const LINE: [Type; 12] = [
    Type::INT8,
    Type::UUID,
    Type::TEXT,
    TEXTS,
    Type::JSONB,
    Type::JSONB,
    TIME,
    TIME,
    Type::TEXT,
    Type::BYTEA,
    Type::TEXT,
    Type::INT8,
];
/// The columns of the append procedure.
pub(super) const ANSWER: [Type; 8] =
    [Type::UUID_ARRAY, Type::INT8, TEXTS, NUMBERS, TEXTS, NUMBERS, Type::PG_LSN, Type::INT8];
/// The columns of a check before the lock.
pub(super) const JUDGEMENT: [Type; 6] = [Type::INT8, Type::UUID, Type::INT8, Type::TEXT, Type::BOOL, Type::BOOL];
/// The columns of a look at the head.
pub(super) const MARK: [Type; 2] = [Type::INT8, Type::UUID];
/// The columns of a consumer's partition.
pub(super) const PARTITION: [Type; 11] =
    [Type::BOOL, Type::INT4, Type::INT8, Type::UUID, Type::INT8, Type::UUID, TIME, Type::INT8, TIME, TIME, Type::INT8];
/// The columns of a skipped event.
pub(super) const SKIPPED: [Type; 5] = [Type::INT8, Type::UUID, Type::TEXT, Type::INT8, TIME];
/// The columns of what a member owns.
pub(super) const CLAIMED: [Type; 5] = [Type::INT4, Type::INT8, Type::INT8, Type::UUID, Type::TEXT];
/// The columns of the answer to a heartbeat.
pub(super) const PULSE: [Type; 8] =
    [Type::BOOL, Type::BOOL, Type::INT4, Type::INT8, Type::INT8, Type::INT8, Type::INT8, Type::INT8];
/// The columns of saved and loaded snapshots.
pub(super) const SAVED: [Type; 3] = [Type::BOOL, Type::BOOL, Type::INT8];
pub(super) const LOADED: [Type; 6] = [Type::INT8, Type::UUID, Type::BOOL, Type::TEXT, TIME, Type::INT8];

/// Reads and writes the columns that the driver does not read: what is read is written back as it was.
///
/// # Panics
///
/// If it is not.
#[cfg_attr(not(feature = "testing"), expect(unreachable_pub, reason = "the tests call it, too"))]
pub fn __column(bytes: &[u8]) {
    if let Ok(json) = JsonText::from_sql(&Type::JSONB, bytes) {
        assert_eq!(written(&json, &Type::JSONB), bytes);
        let json = Json::from_stored(json.0);
        assert_eq!(json, json.clone());
    }
    if let Ok(micros) = Micros::from_sql(&Type::TIMESTAMPTZ, bytes) {
        let again = Micros::from_sql(&Type::TIMESTAMPTZ, &written(&micros, &Type::TIMESTAMPTZ)).expect("it is a time");
        assert_eq!(again.0, micros.0);
        if let Ok(time) = micros.time() {
            assert_eq!(floor_micros(time), micros.0);
        }
    }
    if let Ok(number) = bytes.try_into().map(i64::from_be_bytes) {
        assert_eq!(wire::position(number).ok().map(wire::position_param), (number >= 0).then_some(number));
    }
}

/// Reads a row: its first byte selects the statement, and the rest are its columns. Those of the append procedure are
/// preceded by a byte that says what was sent. Returns whether the row can be read.
///
/// # Panics
///
/// If what is read differs from what the columns say.
#[cfg_attr(not(feature = "testing"), expect(unreachable_pub, reason = "the tests call it, too"))]
#[must_use]
pub fn __row(bytes: &[u8]) -> bool {
    let Some((kind, columns)) = bytes.split_first() else { return false };
    let row = |types| Raw::of_message(types, columns);
    match kind {
        b'l' => line(&row(&LINE)),
        b'a' => columns.split_first().is_some_and(|(sent, columns)| answer(*sent, &Raw::of_message(&ANSWER, columns))),
        b'j' => judgement(&row(&JUDGEMENT)),
        b'm' => {
            let row = row(&MARK);
            let mark = wire::mark(&row, 0);
            if let Ok(mark) = &mark {
                assert_eq!(*mark, plain_mark(&row, 0));
                assert!(mark.is_some() || row.0.iter().all(|(_, value)| value.is_none()));
            }
            mark.is_ok()
        }
        b'p' => {
            let row = row(&PARTITION);
            let partition = partition(&row);
            if let Ok(partition) = &partition {
                checkpoint(partition.checkpoint, &row);
                assert_eq!(partition.waits_since.is_some(), row.0[9].1.is_some());
            }
            partition.is_ok()
        }
        b's' => {
            let row = row(&SKIPPED);
            let skipped = skipped(&row);
            if let Ok(skipped) = &skipped {
                assert_eq!(Some(skipped.mark), plain_mark(&row, 0));
            }
            skipped.is_ok()
        }
        b'c' => {
            let row = row(&CLAIMED);
            let claimed = claimed(&row);
            if let Ok(claimed) = &claimed {
                checkpoint(claimed.checkpoint, &row);
            }
            claimed.is_ok()
        }
        b'h' => heard(&row(&PULSE)),
        b'v' => saved(&row(&SAVED)),
        b'o' => {
            let row = row(&LOADED);
            let loaded = Loaded::read(&row);
            if let Ok(loaded) = &loaded {
                assert_eq!(Some(loaded.mark()), plain_mark(&row, 0));
            }
            loaded.is_ok()
        }
        _ => false,
    }
}

fn judgement(row: &Raw) -> bool {
    let Ok(judgement) = PrecheckRow::read(row) else { return false };
    assert_eq!(Some(judgement.head), plain_mark(row, 0));
    assert_eq!(judgement.broken.is_some(), row.0[2].1.is_some());
    assert_eq!(judgement.broken.is_some(), row.0[3].1.is_some());
    true
}

/// The answer to a heartbeat is what the columns say, and an error means that the columns say nothing valid: of the
/// right type, present, and no less than 0.
fn heard(row: &Raw) -> bool {
    let plain = || {
        let amount = |column| plain_number(row, column).filter(|number| *number >= 0);
        let (is_member, is_paused) = (plain_bool(row, 0)?, plain_bool(row, 1)?);
        let partitions = u64::try_from(i32::from_be_bytes(plain(row, 2)?)).ok()?;
        let (living, owned, free, checkpoint) = (amount(3)?, amount(4)?, amount(5)?, amount(6)?);
        let (members, before) = (living.cast_unsigned().max(1), amount(7)?.cast_unsigned());
        // Each has an equal share, and the first ones have one more, so that nothing is left. Or each may have the one.
        let share = match partitions.checked_sub(members) {
            Some(_) => partitions / members + u64::from(before < partitions - partitions / members * members),
            None => u64::from(partitions > 0),
        };
        let owned_share = owned.cast_unsigned().cmp(&share);
        let is_unfair = owned_share.is_gt() || owned_share.is_lt() && free > 0;
        Some((
            is_member,
            Pulse { is_paused, owned: owned.try_into().ok()?, is_unfair, checkpoint: checkpoint.cast_unsigned() },
        ))
    };
    let (read, said) = (pulse(row).ok(), plain());
    // A process that is no longer a member learns nothing else.
    assert_eq!(read, said.map(|(is_member, pulse)| is_member.then_some(pulse)));
    read.is_some()
}

/// The same for the result of a save. Without a head, the log is empty.
fn saved(row: &Raw) -> bool {
    let plain = || {
        let head = if row.0[2].1.is_none() { 0 } else { plain_number(row, 2).filter(|head| *head >= 0)? };
        Some((plain_bool(row, 0)?, plain_bool(row, 1)?, head.cast_unsigned()))
    };
    let read = SaveAnswer::read(row).ok().map(|SaveAnswer { held, saved, head }| (held, saved, head));
    assert_eq!(read, plain());
    read.is_some()
}

/// An event that is written back is read as the same, and a head has no column of an event.
fn line(row: &Raw) -> bool {
    let line = wire::line(row);
    match &line {
        Ok(Line::Event(event)) => match wire::line(&row_of(event)) {
            Ok(Line::Event(again)) => assert_eq!(again, *event),
            other => panic!("{event:?} was written, and {other:?} read"),
        },
        Ok(Line::Head(mark)) => {
            assert_eq!(Some(*mark), plain_mark(row, 0));
            assert!(row.0[2..=10].iter().all(|(_, value)| value.is_none()));
        }
        Err(_) => {}
    }
    line.is_ok()
}

/// Each append has one outcome, one that its contents allow, and what is written has the positions after the head.
fn answer(byte: u8, row: &Raw) -> bool {
    let flag = |bit: u8| byte & 1 << bit != 0;
    let amounts = 1..=u64::from(byte & 7);
    let sent = amounts.map(|events| Sent { events, has_condition: flag(3), goes_to_stream: flag(4) });
    let sent: Vec<Sent> = sent.collect();
    let Ok(answer) = Answer::read(row) else { return false };
    let Some(answers) = answer.read_for(&sent, flag(5)) else { return false };
    assert_eq!(answers.outcomes.len(), sent.len());
    let head = row.0[1].1.as_deref().and_then(|head| head.try_into().ok()).map(u64::from_be_bytes);
    let mut next = head.expect("there is a head") + 1;
    for (one, outcome) in sent.iter().zip(&answers.outcomes) {
        match outcome {
            AppendOutcome::Appended { position, version } => {
                assert_eq!((*position, version.is_some()), (next, one.goes_to_stream));
                next += one.events;
            }
            AppendOutcome::Repeated { position, version } => {
                assert_eq!((*position > 0, version.is_some()), (true, one.goes_to_stream));
            }
            AppendOutcome::Conflict { .. } | AppendOutcome::Diverged(_) | AppendOutcome::Far => {
                assert!(one.has_condition)
            }
            AppendOutcome::Version(_) | AppendOutcome::Replaced(_) => assert!(one.goes_to_stream),
            AppendOutcome::Reused(position) => assert!(*position > 0),
        }
    }
    assert!(next - 1 <= i64::MAX.cast_unsigned());
    assert!(answers.known.is_empty() || flag(5));
    assert!(row.0[0].1.is_some() || !flag(5));
    true
}

/// The beginning is 0, without an id, and nothing else is.
fn checkpoint(checkpoint: Option<Mark>, row: &Raw) {
    match checkpoint {
        Some(mark) => assert_eq!(Some(mark), plain_mark(row, 2)),
        None => assert_eq!((row.0[2].1.as_deref(), row.0[3].1.as_deref()), (Some(&[0; 8][..]), None)),
    }
}

/// Reads the mark of two columns in another way.
fn plain_mark(row: &Raw, first: usize) -> Option<Mark> {
    let at = u64::from_be_bytes(plain(row, first)?);
    let id = Uuid::from_slice(row.0[first + 1].1.as_deref()?).ok()?;
    Some(Mark::new(at, id.into()))
}

/// Reads a column of this many bytes.
fn plain<const N: usize>(row: &Raw, column: usize) -> Option<[u8; N]> {
    row.0[column].1.as_deref()?.try_into().ok()
}

fn plain_number(row: &Raw, column: usize) -> Option<i64> {
    plain(row, column).map(i64::from_be_bytes)
}

fn plain_bool(row: &Raw, column: usize) -> Option<bool> {
    plain(row, column).map(|[byte]| byte != 0)
}

/// The row of an event.
pub(super) fn row_of(event: &Event) -> Raw {
    let (position, id) = (wire::position_param(event.position()), Uuid::from(event.id()));
    let tags: Vec<&str> = event.tags().collect();
    let json = event.payload().as_json().map(|json| JsonText(json.as_str()));
    let opaque = event.payload().as_bytes();
    let stream = event.stream().map(|stream| (stream.id(), wire::position_param(stream.version())));
    let values: [&dyn ToSql; 12] = [
        &position,
        &id,
        &event.event_type(),
        &tags,
        &json,
        &JsonText(event.metadata().as_str()),
        &Micros::of(event.occurred_at()),
        &Micros::of(event.recorded_at()),
        &opaque.map(|(content_type, _)| content_type),
        &opaque.map(|(_, bytes)| bytes),
        &stream.map(|(id, _)| id),
        &stream.map(|(_, version)| version),
    ];
    Raw(LINE.into_iter().zip(values).map(|(ty, value)| of(ty, value)).collect())
}

/// A column with this value.
pub(super) fn of(ty: Type, value: &dyn ToSql) -> (Type, Option<Vec<u8>>) {
    let mut bytes = BytesMut::new();
    match value.to_sql_checked(&ty, &mut bytes).expect("it can be written") {
        IsNull::No => (ty, Some(bytes.to_vec())),
        IsNull::Yes => (ty, None),
    }
}

fn written(value: &dyn ToSql, ty: &Type) -> Vec<u8> {
    of(ty.clone(), value).1.expect("it is not null")
}
