//! Rows that no server of ours would send. Not for users: `fuzz/` feeds bytes to the code that reads them, and the
//! tests here feed it wrong NULLs.

use tokio_postgres::types::{FromSql, Type};

use super::wire::{Columns, Failure, Unreadable};

mod checks;
#[cfg(test)]
mod tests;

#[cfg(feature = "testing")]
pub use self::checks::{__column, __row};

/// A row given by its bytes.
#[derive(Debug, Default)]
struct Raw(Vec<(Type, Option<Vec<u8>>)>);

impl Raw {
    /// The values of these columns as in a message: each preceded by its length, which is -1 for NULL. What is missing
    /// is NULL.
    fn of_message(types: &[Type], mut bytes: &[u8]) -> Self {
        let mut value = || {
            let (len, rest) = bytes.split_first_chunk()?;
            let len = usize::try_from(i32::from_be_bytes(*len));
            let (value, rest) = rest.split_at(len.as_ref().map_or(0, |len| (*len).min(rest.len())));
            bytes = rest;
            len.is_ok().then(|| value.to_vec())
        };
        Self(types.iter().map(|ty| (ty.clone(), value())).collect())
    }
}

impl Columns for Raw {
    fn get<'a, T: FromSql<'a>>(&'a self, column: usize) -> Result<T, Unreadable> {
        let value = || -> Result<T, Failure> {
            let (ty, value) = self.0.get(column).ok_or("there is no such column")?;
            if !T::accepts(ty) {
                return Err(format!("{ty} is of another type").into());
            }
            T::from_sql_nullable(ty, value.as_deref())
        };
        value().map_err(Unreadable::Column)
    }
}
