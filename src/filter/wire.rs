//! Filters as JSON.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, SeqAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::value::RawValue;

use super::{
    Filter, FilterItem, Fragment, PositionBoundedFilter, Predicate, PredicateGroup, Side, TimeBoundedFilter,
    builder::from_drafts, item::Draft,
};
use crate::json::serialize_text;

const ANY_EVENT: &str = "any_event";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    matching: Items,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PositionBounded {
    matching: Items,
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    after_position: Option<u64>,
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    until_position: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TimeBounded {
    matching: Items,
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    occurred_from: Option<i64>,
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    occurred_until: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    #[serde(default, deserialize_with = "given")]
    any_type_of: Option<Vec<Box<str>>>,
    #[serde(default, deserialize_with = "given")]
    all_tags_of: Option<Vec<Box<str>>>,
    #[serde(default, deserialize_with = "given")]
    any_predicate_of: Option<Vec<Containment>>,
    #[serde(default, deserialize_with = "given")]
    all_predicates_of: Option<Vec<Containment>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Containment {
    Payload(Box<RawValue>),
    Metadata(Box<RawValue>),
}

/// A field that is present must have a value: a null, as from an unset variable, would select more than was meant.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// The filter without its bounds, as the value of `matching`.
struct Items(Filter);

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemsVisitor;

        // Not an untagged enum: that would buffer, which raw JSON does not survive.
        impl<'de> Visitor<'de> for ItemsVisitor {
            type Value = Items;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of items, or \"{ANY_EVENT}\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Items, E> {
                if text == ANY_EVENT {
                    Ok(Items(Filter::any_event()))
                } else {
                    Err(E::invalid_value(de::Unexpected::Str(text), &self))
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Items, A::Error> {
                let mut drafts = Vec::new();
                while let Some(item) = items.next_element::<Item>()? {
                    drafts.push(item.into());
                }
                from_drafts(drafts).map(Items).map_err(de::Error::custom)
            }
        }

        deserializer.deserialize_any(ItemsVisitor)
    }
}

impl Serialize for Items {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.items() {
            None => serializer.serialize_str(ANY_EVENT),
            Some(items) => serializer.collect_seq(items),
        }
    }
}

impl From<Item> for Draft {
    fn from(item: Item) -> Self {
        let predicates = |list: Vec<Containment>| list.into_iter().map(Predicate::from).collect();
        Self {
            types: item.any_type_of,
            tags: item.all_tags_of,
            any_predicate: item.any_predicate_of.map(predicates),
            all_predicates: item.all_predicates_of.map(predicates),
        }
    }
}

impl From<Containment> for Predicate {
    fn from(containment: Containment) -> Self {
        match containment {
            Containment::Payload(json) => Self::from_text(Side::Payload, json.get()),
            Containment::Metadata(json) => Self::from_text(Side::Metadata, json.get()),
        }
    }
}

impl Serialize for FilterItem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if self.types().len() > 0 {
            map.serialize_entry("any_type_of", &self.types().collect::<Vec<_>>())?;
        }
        if self.tags().len() > 0 {
            map.serialize_entry("all_tags_of", &self.tags().collect::<Vec<_>>())?;
        }
        match self.predicates() {
            None => {}
            Some(PredicateGroup::AnyOf(fragments)) => map.serialize_entry("any_predicate_of", fragments)?,
            Some(PredicateGroup::AllOf(fragments)) => map.serialize_entry("all_predicates_of", fragments)?,
        }
        map.end()
    }
}

impl Serialize for Fragment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Text<'a>(&'a str);

        impl Serialize for Text<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serialize_text(self.0, serializer)
            }
        }

        let mut map = serializer.serialize_map(Some(1))?;
        let side = match self.side() {
            Side::Payload => "payload",
            Side::Metadata => "metadata",
        };
        map.serialize_entry(side, &Text(self.json()))?;
        map.end()
    }
}

impl Serialize for Filter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Plain { matching: Items(self.clone()) }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Plain::deserialize(deserializer).map(|plain| plain.matching.0)
    }
}

impl Serialize for PositionBoundedFilter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (after, until) = (self.after(), self.until());
        // One of them is always present: it tells this type from a filter without bounds.
        let after_position = (after > 0 || until.is_none()).then_some(after);
        PositionBounded { matching: Items(self.filter().clone()), after_position, until_position: until }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PositionBoundedFilter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let PositionBounded { matching: Items(filter), after_position, until_position } =
            PositionBounded::deserialize(deserializer)?;
        match (after_position, until_position) {
            (after, Some(until)) => Ok(filter.until_position(until).after_position(after.unwrap_or(0))),
            (Some(after), None) => Ok(filter.after_position(after)),
            (None, None) => Err(de::Error::custom("neither after_position nor until_position is given")),
        }
    }
}

impl Serialize for TimeBoundedFilter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (occurred_from, occurred_until) = self.micros();
        TimeBounded { matching: Items(self.filter().clone()), occurred_from, occurred_until }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for TimeBoundedFilter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = TimeBounded::deserialize(deserializer)?;
        Self::from_micros(wire.matching.0, wire.occurred_from, wire.occurred_until).map_err(de::Error::custom)
    }
}
