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

fn number(raw: &[u8], at: usize) -> Option<i32> {
    raw.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes)
}

/// The number of elements, for which there is room.
fn len(raw: &[u8]) -> Result<usize, Unreadable> {
    match number(raw, 0) {
        Some(0) => Ok(0),
        Some(1) => {
            let claimed = number(raw, HEAD).unwrap_or(-1);
            let room = raw.len().saturating_sub(HEAD + DIMENSION) / LEAST;
            usize::try_from(claimed).ok().filter(|claimed| *claimed <= room).ok_or(Unreadable::Array(claimed))
        }
        dimensions => Err(Unreadable::Dimensions(dimensions.unwrap_or(-1))),
    }
}

impl<'a, T: FromSql<'a>> FromSql<'a> for Array<T> {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        len(raw)?;
        Ok(Self(Vec::from_sql(ty, raw)?))
    }

    fn accepts(ty: &Type) -> bool {
        // What the driver has for a `Vec`, which would panic for anything else.
        matches!(ty.kind(), Kind::Array(_)) && Vec::<T>::accepts(ty)
    }
}

/// The elements of an array of texts, where they arrived: for what is read very often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Texts<'a> {
    len: usize,
    elements: &'a [u8],
}

impl<'a> FromSql<'a> for Texts<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        Ok(Self { len: len(raw)?, elements: raw.get(HEAD + DIMENSION..).unwrap_or_default() })
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TEXT_ARRAY
    }
}

impl<'a> Texts<'a> {
    /// Visits each of them, none of which may be null.
    pub(super) fn each(self, mut visit: impl FnMut(&'a str)) -> Result<(), Unreadable> {
        let mut rest = self.elements;
        for _ in 0..self.len {
            let (len, after) = rest.split_first_chunk().ok_or(Unreadable::Elements)?;
            let len = match i32::from_be_bytes(*len) {
                -1 => return Err(Unreadable::Null("an element of an array")),
                len => usize::try_from(len).map_err(|_| Unreadable::Elements)?,
            };
            let (text, after) = after.split_at_checked(len).ok_or(Unreadable::Elements)?;
            visit(std::str::from_utf8(text).map_err(|error| Unreadable::Column(error.into()))?);
            rest = after;
        }
        if rest.is_empty() { Ok(()) } else { Err(Unreadable::Elements) }
    }

    /// How many bytes they have, and one more for each.
    pub(super) fn byte_len(self) -> usize {
        self.elements.len().saturating_sub((LEAST - 1) * self.len)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use tokio_postgres::types::ToSql;

    use super::*;

    fn array<T: ToSql>(elements: &[T]) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        let _ = elements.to_sql(&Type::TEXT_ARRAY, &mut bytes).unwrap();
        bytes.to_vec()
    }

    fn texts(raw: &[u8]) -> Result<Vec<&str>, Failure> {
        let (texts, mut found) = (Texts::from_sql(&Type::TEXT_ARRAY, raw)?, Vec::new());
        texts.each(|text| found.push(text))?;
        assert!(found.iter().map(|text| text.len() + 1).sum::<usize>() <= texts.byte_len());
        Ok(found)
    }

    #[test]
    fn texts_are_those_that_the_driver_reads() {
        for elements in [&[][..], &[""], &["a", "", "é😀"]] {
            let raw = array(elements);
            assert_eq!(texts(&raw).unwrap(), elements);
            assert_eq!(Array::<&str>::from_sql(&Type::TEXT_ARRAY, &raw).unwrap().0, elements);
        }
        assert!(!Texts::accepts(&Type::TEXT) && !Texts::accepts(&Type::INT4_ARRAY));
    }

    #[test]
    fn what_is_no_array_of_texts_is_an_error() {
        let whole = array(&["a", "bc"]);
        for cut in 0..whole.len() {
            assert!(texts(&whole[..cut]).is_err(), "{cut}");
        }
        assert!(texts(&[&whole[..], b"d"].concat()).is_err());
        assert!(texts(&array(&[Some("a"), None])).unwrap_err().to_string().contains("null"));
        let at = whole.len() - 2;
        assert!(texts(&[&whole[..at], b"\xff\xff"].concat()).is_err(), "no UTF-8");
        for len in [-2, 3, i32::MAX, i32::MIN] {
            let wrong = [&whole[..at - 4], &len.to_be_bytes(), b"bc"].concat();
            assert!(texts(&wrong).is_err(), "{len}");
        }
    }
}
