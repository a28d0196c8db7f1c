//! What the suite's scripts query and append: few types and tags, so that queries overlap.

use serde::{Deserialize, Serialize};
use serde_json::json;

/// Splitmix64: the same choices from the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64, writer: u64) -> Self {
        Self(seed ^ writer.wrapping_add(1).wrapping_mul(0xd129_0bc9_8c21_4bd7))
    }

    /// A number below `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % sides
    }

    fn between(&mut self, (min, max): (u64, u64)) -> u64 {
        min + self.roll(max - min + 1)
    }

    /// `count` different strings, each of `prefix` and a number from 1 to `of`.
    fn some(&mut self, prefix: &str, of: u64, count: u64) -> Vec<String> {
        let mut numbers: Vec<u64> = (1..=of).collect();
        for place in (1..numbers.len()).rev() {
            numbers.swap(place, self.roll(place as u64 + 1) as usize);
        }
        numbers.into_iter().take(count as usize).map(|number| format!("{prefix}{number}")).collect()
    }
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub(crate) struct Query {
    pub(crate) items: Vec<Item>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
pub(crate) struct Item {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) types: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<String>,
}

impl Query {
    /// The suite's query for every event.
    pub(crate) fn all() -> Self {
        Self { items: Vec::new() }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub(crate) struct NewEvent {
    pub(crate) r#type: String,
    pub(crate) tags: Vec<String>,
    pub(crate) data: String,
}

/// The decision behind an append, recorded in its first event: the writer's query, and the last event it found.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Decision {
    pub(crate) batch_index: u64,
    #[serde(default)]
    pub(crate) query: Option<Query>,
    #[serde(default)]
    pub(crate) last_matching_event_position: u64,
}

/// How many types, tags and so on there are to choose from.
#[derive(Clone, Copy)]
pub(crate) struct Variety {
    pub(crate) types: u64,
    pub(crate) tags: u64,
    pub(crate) events_per_append: (u64, u64),
}

const ITEMS_PER_QUERY: (u64, u64) = (0, 3);
const TYPES_PER_ITEM: (u64, u64) = (0, 4);
const TAGS_PER_ITEM: (u64, u64) = (0, 3);

impl Variety {
    pub(crate) fn query(self, dice: &mut Dice) -> Query {
        let items = dice.between(ITEMS_PER_QUERY);
        Query { items: (0..items).map(|_| self.item(dice)).collect() }
    }

    fn item(self, dice: &mut Dice) -> Item {
        let (mut types, mut tags) = (dice.between(TYPES_PER_ITEM), dice.between(TAGS_PER_ITEM));
        if (types, tags) == (0, 0) {
            (types, tags) = (dice.between(TYPES_PER_ITEM).max(1), dice.between(TAGS_PER_ITEM).max(1));
        }
        Item { types: dice.some("eventType", self.types, types), tags: dice.some("tag", self.tags, tags) }
    }

    pub(crate) fn events(self, dice: &mut Dice, query: &Query, last: u64) -> Vec<NewEvent> {
        let size = dice.between(self.events_per_append);
        let mut event = |index| {
            let data = match index {
                0 => json!({"batchIndex": 0, "batchSize": size, "query": query, "lastMatchingEventPosition": last}),
                _ => json!({"batchIndex": index, "batchSize": size}),
            };
            let count = dice.between(TAGS_PER_ITEM);
            NewEvent {
                r#type: dice.some("eventType", self.types, 1).remove(0),
                tags: dice.some("tag", self.tags, count),
                data: data.to_string(),
            }
        };
        (0..size).map(&mut event).collect()
    }
}
