//! An enum whose variants are event types: built from a type and a payload, and back. The variants are serde's, so
//! nobody has to list them.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, DeserializeSeed, IntoDeserializer, Visitor, value::StrDeserializer},
    forward_to_deserialize_any,
};
use serde_json::value::RawValue;

/// Why a type and a payload do not make an `E`.
#[derive(Debug)]
pub(super) enum Undecodable {
    /// `E` has no variant for the type.
    UnknownType,
    Payload(serde_json::Error),
    Other(String),
}

/// Returns the variant of `E` that has the type's name, built from the payload.
pub(super) fn decode<'de, E: Deserialize<'de>>(event_type: &'de str, payload: &'de str) -> Result<E, Undecodable> {
    E::deserialize(Tagged { event_type, payload })
}

/// Returns the name of the variant, and its content as JSON.
pub(super) fn encode<E: Serialize>(event: &E) -> Result<(String, String), Undecodable> {
    let text = serde_json::to_string(event).map_err(Undecodable::Payload)?;
    // A variant without content is its name.
    if let Ok(event_type) = serde_json::from_str::<String>(&text) {
        return Ok((event_type, "{}".to_owned()));
    }
    let variants: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&text).unwrap_or_default();
    let mut variants = variants.into_iter();
    match (variants.next(), variants.next()) {
        (Some((event_type, payload)), None) => Ok((event_type, payload.get().to_owned())),
        _ => Err(Undecodable::Other(NO_ENUM.to_owned())),
    }
}

const NO_ENUM: &str = "it is no enum whose variants are the types of events, in serde's own form (externally tagged)";

struct Tagged<'de> {
    event_type: &'de str,
    payload: &'de str,
}

impl<'de> Tagged<'de> {
    fn payload(&self) -> serde_json::Deserializer<serde_json::de::StrRead<'de>> {
        serde_json::Deserializer::from_str(self.payload)
    }
}

impl<'de> Deserializer<'de> for Tagged<'de> {
    type Error = Undecodable;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Undecodable> {
        Err(Undecodable::Other(NO_ENUM.to_owned()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Undecodable> {
        visitor.visit_enum(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de> de::EnumAccess<'de> for Tagged<'de> {
    type Error = Undecodable;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Undecodable> {
        let name: StrDeserializer<'de, Undecodable> = self.event_type.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Tagged<'de> {
    type Error = Undecodable;

    /// The variant holds nothing, so the payload's content does not matter, just as unknown members do not.
    fn unit_variant(self) -> Result<(), Undecodable> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Undecodable> {
        seed.deserialize(&mut self.payload()).map_err(Undecodable::Payload)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Undecodable> {
        self.payload().deserialize_tuple(len, visitor).map_err(Undecodable::Payload)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Undecodable> {
        self.payload().deserialize_struct("", fields, visitor).map_err(Undecodable::Payload)
    }
}

impl de::Error for Undecodable {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Other(message.to_string())
    }

    /// Always about the type: `serde_json` reads the payload.
    fn unknown_variant(_variant: &str, _expected: &'static [&'static str]) -> Self {
        Self::UnknownType
    }
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownType => f.write_str("there is no variant of this name"),
            Self::Payload(error) => error.fmt(f),
            Self::Other(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Undecodable {}
