//! `json` and `jsonb` as their text, which is what the Go drivers scan them into.

use std::error::Error;

use tokio_postgres::types::{FromSql, Type};

pub(crate) struct JsonText(pub(crate) String);

impl<'a> FromSql<'a> for JsonText {
    fn from_sql(of: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        // The only version of jsonb's binary format so far is 1: text after that byte.
        let text = match (of, raw.split_first()) {
            (&Type::JSONB, Some((1, text))) => text,
            (&Type::JSON, _) => raw,
            _ => return Err("an unknown version of jsonb's binary format".into()),
        };
        Ok(Self(std::str::from_utf8(text)?.to_owned()))
    }

    fn accepts(of: &Type) -> bool {
        matches!(*of, Type::JSON | Type::JSONB)
    }
}
