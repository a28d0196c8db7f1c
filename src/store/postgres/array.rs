//! Arrays from the server, whatever length they claim.

use tokio_postgres::types::{FromSql, Kind, Type};

use super::wire::{Failure, Unreadable};

/// The elements of an array of one dimension.
///
/// The driver's own `Vec` reserves room for as many elements as the array claims before it looks at the first: twenty
/// bytes could ask for 32 GiB, and a failed allocation ends the process.
#[derive(Debug)]
pub(super) struct Array<T>(pub(super) Vec<T>);

/// Before the dimensions come their number, whether there are nulls, and the type of the elements.
const HEAD: usize = 12;
/// A dimension consists of its length and its lower bound.
const DIMENSION: usize = 8;
/// Each element is preceded by its length, at least.
const LEAST: usize = 4;

impl<'a, T: FromSql<'a>> FromSql<'a> for Array<T> {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        let number = |at: usize| raw.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes);
        match number(0) {
            Some(1) => {
                let claimed = number(HEAD).unwrap_or(-1);
                let room = raw.len().saturating_sub(HEAD + DIMENSION) / LEAST;
                if usize::try_from(claimed).is_ok_and(|claimed| claimed <= room) {
                    Ok(Self(Vec::from_sql(ty, raw)?))
                } else {
                    Err(Unreadable::Array(claimed).into())
                }
            }
            Some(0) => Ok(Self(Vec::from_sql(ty, raw)?)),
            dimensions => Err(Unreadable::Dimensions(dimensions.unwrap_or(-1)).into()),
        }
    }

    fn accepts(ty: &Type) -> bool {
        // What the driver has for a `Vec`, which would panic for anything else.
        matches!(ty.kind(), Kind::Array(_)) && Vec::<T>::accepts(ty)
    }
}
