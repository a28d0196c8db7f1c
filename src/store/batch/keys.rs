//! The keys of filters and of events, which can be looked up.
//!
//! An event that matches an item of a filter has at least one of the item's keys: that is all that a key promises. The
//! converse does not hold, so everything that shares a key is then checked against the filter itself. A missing key
//! would let a broken condition pass; the property tests search for one.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, Hash},
    sync::LazyLock,
};

use foldhash::fast::RandomState;

use super::array_text;
use crate::{
    Filter, NewEvent,
    filter::{FilterItem, Fragment, PredicateGroup, Side},
    json::{Value, Walk, write_string},
};

/// A value for each key.
pub(in crate::store) type KeyMap<T> = HashMap<u64, T, RandomState>;

pub(in crate::store) type KeySet = HashSet<u64, RandomState>;

/// Most events have no more keys than this.
const USUAL_KEYS: usize = 16;

/// The keys of an event, hashed.
#[derive(Clone, Debug)]
pub(in crate::store) struct EventKeys {
    hashes: Vec<u64>,
    /// How many of them are from the payload, or from the metadata if that has more.
    members: usize,
}

/// The keys of a filter: hashed for looking them up here, in full for looking them up in the log.
#[derive(Clone, Debug)]
pub(in crate::store) struct GuardKeys {
    hashes: Vec<u64>,
    places: Vec<(KeyField, String)>,
}

/// Where in an event the value of a key is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::store) enum KeyField {
    /// Every event has it.
    Anywhere,
    Type,
    Tags,
    /// A path into the payload, as the text of an array of texts.
    Payload(String),
    /// The same into the metadata.
    Metadata(String),
}

/// One step into a document. Elements of arrays are a set, so they all have the same step.
#[derive(Clone, Copy, Hash)]
enum Step<'a> {
    Member(&'a str),
    Element,
}

impl<'a> Step<'a> {
    fn member(&self) -> Option<&'a str> {
        match *self {
            Self::Member(name) => Some(name),
            Self::Element => None,
        }
    }
}

/// The hashes of a document's scalars.
struct Leaves<'h>(&'h mut Vec<u64>);

impl<'a> Walk<'a> for Leaves<'_> {
    /// A hash of the path to a value.
    type Path = u64;

    fn member(&self, object: u64, key: &str) -> u64 {
        step_hash(object, Step::Member(key))
    }

    fn element(&self, array: u64) -> u64 {
        step_hash(array, Step::Element)
    }

    fn scalar(&mut self, place: u64, value: Value<'a>) {
        // A value nested too deep for us is nested deeper than any predicate.
        self.0.extend(leaf_hash(place, &value));
    }
}

impl EventKeys {
    pub(in crate::store) fn of(event: &NewEvent) -> Self {
        let mut hashes = Vec::with_capacity(USUAL_KEYS);
        hashes.extend([hash(&"any"), type_hash(event.event_type())]);
        hashes.extend(event.tags().map(tag_hash));
        let before = hashes.len();
        if let Some(json) = event.payload().as_json() {
            json.walk(hash(&Side::Payload), Leaves(&mut hashes));
        }
        let of_payload = hashes.len() - before;
        event.metadata().walk(hash(&Side::Metadata), Leaves(&mut hashes));
        let of_metadata = hashes.len() - before - of_payload;
        Self { hashes, members: of_payload.max(of_metadata) }
    }

    pub(in crate::store) fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// The approximate number of entries that the event has in the larger of the indexes on payloads and on metadata.
    pub(in crate::store) fn entries(&self) -> usize {
        self.members.max(1)
    }
}

impl GuardKeys {
    pub(in crate::store) fn of(filter: &Filter) -> Self {
        let mut keys = Self { hashes: Vec::new(), places: Vec::new() };
        match filter.items() {
            Some(items) => items.for_each(|item| keys.add(item)),
            None => keys.add_any(),
        }
        keys.hashes.sort_unstable();
        keys.hashes.dedup();
        keys
    }

    pub(in crate::store) fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// The keys as they are looked up in the log: where, and the value as JSON.
    pub(in crate::store) fn places(&self) -> &[(KeyField, String)] {
        &self.places
    }

    /// The keys of one item: the part of it that the fewest events have, as far as can be told.
    fn add(&mut self, item: &FilterItem) {
        if let Some(tag) = item.tags().next() {
            self.hashes.push(tag_hash(tag));
            self.places.push((KeyField::Tags, json_text(tag)));
            return;
        }
        if !item.predicates().is_some_and(|group| self.add_predicates(item, group)) {
            self.add_types(item);
        }
    }

    /// One leaf of a fragment that must be contained, or of each fragment if any suffices; `false` if there is none.
    fn add_predicates(&mut self, item: &FilterItem, group: &PredicateGroup) -> bool {
        let leaves: Option<Vec<Leaf>> = match group {
            PredicateGroup::AnyOf(fragments) => fragments.iter().map(Leaf::of).collect(),
            PredicateGroup::AllOf(fragments) => {
                let mut leaves: Vec<Leaf> = fragments.iter().filter_map(Leaf::of).collect();
                leaves.sort_by_key(|leaf| leaf.place.is_none());
                leaves.into_iter().next().map(|leaf| vec![leaf])
            }
        };
        let Some(leaves) = leaves else { return false };
        self.hashes.extend(leaves.iter().map(|leaf| leaf.hash));
        match leaves.into_iter().map(|leaf| leaf.place).collect::<Option<Vec<_>>>() {
            Some(places) => self.places.extend(places),
            // An element of an array cannot be looked up in the log by its path.
            None => self.places.extend(type_places(item)),
        }
        true
    }

    fn add_types(&mut self, item: &FilterItem) {
        if item.types().len() == 0 {
            return self.add_any();
        }
        self.hashes.extend(item.types().map(type_hash));
        self.places.extend(type_places(item));
    }

    fn add_any(&mut self) {
        self.hashes.push(hash(&"any"));
        self.places.push((KeyField::Anywhere, "null".to_owned()));
    }
}

fn type_places(item: &FilterItem) -> Vec<(KeyField, String)> {
    if item.types().len() == 0 {
        return vec![(KeyField::Anywhere, "null".to_owned())];
    }
    item.types().map(|event_type| (KeyField::Type, json_text(event_type))).collect()
}

/// One scalar of a fragment, and its place.
struct Leaf {
    hash: u64,
    /// `None` when it is in an array.
    place: Option<(KeyField, String)>,
}

impl Leaf {
    /// The first leaf of a fragment outside arrays, or else the first one. None if the fragment has no scalar, or is a
    /// bare one: as an exception, an array contains that too.
    fn of(fragment: &Fragment) -> Option<Self> {
        if !fragment.value().is_container() {
            return None;
        }
        let side = fragment.side();
        let mut best: Option<Self> = None;
        leaves(fragment.value(), hash(&side), &mut Vec::new(), &mut |at, steps, value| {
            if best.as_ref().is_some_and(|leaf| leaf.place.is_some()) {
                return;
            }
            let Some(hash) = leaf_hash(at, value) else { return };
            let place = path(steps).map(|path| (of_side(side)(path), scalar_json(value)));
            if best.is_none() || place.is_some() {
                best = Some(Self { hash, place });
            }
        });
        best
    }
}

/// Everything that the log finds in an event by the keys of filters.
#[cfg(any(test, feature = "testing"))]
pub(super) fn places(event: &NewEvent) -> Vec<(KeyField, String)> {
    let mut places = vec![(KeyField::Anywhere, "null".to_owned()), (KeyField::Type, json_text(event.event_type()))];
    places.extend(event.tags().map(|tag| (KeyField::Tags, json_text(tag))));
    let documents = [(Side::Payload, event.payload().as_json()), (Side::Metadata, Some(event.metadata()))];
    for (side, json) in documents.into_iter().filter_map(|(side, json)| Some((side, json?))) {
        leaves(&json.value(), 0, &mut Vec::new(), &mut |_, steps, value| {
            places.extend(path(steps).map(|path| (of_side(side)(path), scalar_json(value))));
        });
    }
    places
}

/// The path in the form in which the log is queried, if no array is on it.
fn path(steps: &[Step<'_>]) -> Option<String> {
    let names: Option<Vec<&str>> = steps.iter().map(Step::member).collect();
    Some(array_text(names?.into_iter()))
}

fn of_side(side: Side) -> fn(String) -> KeyField {
    match side {
        Side::Payload => KeyField::Payload,
        Side::Metadata => KeyField::Metadata,
    }
}

/// Calls `see` with every scalar of a document, and its place: a hash of the path, and the steps.
fn leaves<'v>(
    value: &'v Value<'_>,
    at: u64,
    steps: &mut Vec<Step<'v>>,
    see: &mut impl FnMut(u64, &[Step<'v>], &Value<'_>),
) {
    let mut within = |step, value| {
        steps.push(step);
        leaves(value, step_hash(at, step), steps, see);
        steps.pop();
    };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, member)| within(Step::Member(name), member)),
        Value::Array(elements) => elements.iter().for_each(|element| within(Step::Element, element)),
        scalar => see(at, steps, scalar),
    }
}

fn step_hash(at: u64, step: Step<'_>) -> u64 {
    hash(&(at, step))
}

/// `None` for a value that is not a scalar. Equal scalars have one text, and strings are distinguished from others.
fn leaf_hash(at: u64, value: &Value<'_>) -> Option<u64> {
    let is_string = matches!(value, Value::String(_));
    value.as_scalar().map(|text| hash(&(at, is_string, text)))
}

/// A scalar of a fragment as JSON.
fn scalar_json(scalar: &Value<'_>) -> String {
    match scalar {
        Value::String(text) => json_text(text),
        other => other.as_scalar().unwrap_or_default().into_owned(),
    }
}

fn tag_hash(tag: &str) -> u64 {
    hash(&("tag", tag))
}

fn type_hash(event_type: &str) -> u64 {
    hash(&("type", event_type))
}

/// Seeded per process: nobody outside can make keys that collide, here or in a [`KeyMap`].
fn hash(key: &impl Hash) -> u64 {
    static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::default);
    SEED.hash_one(key)
}

fn json_text(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    write_string(&mut json, text);
    json
}
