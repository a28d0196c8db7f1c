//! An enum whose variants are event types: built from a type and a payload, and back. The variants are serde's, so
//! nobody has to list them.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, DeserializeSeed, IntoDeserializer, Visitor, value::StrDeserializer},
    forward_to_deserialize_any,
    ser::{self, Impossible},
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
    event.serialize(Variant)?;
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

impl ser::Error for Undecodable {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Other(message.to_string())
    }
}

/// Accepts variants only, whatever is in them: other values may look like one, such as a struct with one member.
struct Variant;

fn no_enum<T>() -> Result<T, Undecodable> {
    Err(Undecodable::Other(NO_ENUM.to_owned()))
}

macro_rules! no_variants {
    ($($method:ident($($ty:ty),*) -> $ok:ty;)*) => {
        $(fn $method(self, $(_: $ty),*) -> Result<$ok, Undecodable> {
            no_enum()
        })*
    };
}

impl Serializer for Variant {
    type Ok = ();
    type Error = Undecodable;
    type SerializeSeq = Impossible<(), Undecodable>;
    type SerializeTuple = Impossible<(), Undecodable>;
    type SerializeTupleStruct = Impossible<(), Undecodable>;
    type SerializeTupleVariant = Self;
    type SerializeMap = Impossible<(), Undecodable>;
    type SerializeStruct = Impossible<(), Undecodable>;
    type SerializeStructVariant = Self;

    no_variants! {
        serialize_bool(bool) -> ();
        serialize_i8(i8) -> ();
        serialize_i16(i16) -> ();
        serialize_i32(i32) -> ();
        serialize_i64(i64) -> ();
        serialize_i128(i128) -> ();
        serialize_u8(u8) -> ();
        serialize_u16(u16) -> ();
        serialize_u32(u32) -> ();
        serialize_u64(u64) -> ();
        serialize_u128(u128) -> ();
        serialize_f32(f32) -> ();
        serialize_f64(f64) -> ();
        serialize_char(char) -> ();
        serialize_str(&str) -> ();
        serialize_bytes(&[u8]) -> ();
        serialize_none() -> ();
        serialize_unit() -> ();
        serialize_unit_struct(&'static str) -> ();
        serialize_seq(Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct(&'static str, usize) -> Self::SerializeStruct;
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), Undecodable> {
        no_enum()
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Undecodable> {
        value.serialize(self)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Undecodable> {
        Ok(())
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Undecodable> {
        Ok(())
    }

    fn serialize_tuple_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self, Undecodable> {
        Ok(self)
    }

    fn serialize_struct_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self, Undecodable> {
        Ok(self)
    }
}

impl ser::SerializeTupleVariant for Variant {
    type Ok = ();
    type Error = Undecodable;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &T) -> Result<(), Undecodable> {
        Ok(())
    }

    fn end(self) -> Result<(), Undecodable> {
        Ok(())
    }
}

impl ser::SerializeStructVariant for Variant {
    type Ok = ();
    type Error = Undecodable;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, _: &T) -> Result<(), Undecodable> {
        Ok(())
    }

    fn end(self) -> Result<(), Undecodable> {
        Ok(())
    }
}
