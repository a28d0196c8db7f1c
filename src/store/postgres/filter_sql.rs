//! A filter as SQL: the text has the filter's shape, the values are bound.

use std::fmt::Write as _;

use tokio_postgres::types::ToSql;

use super::{
    schema::hot_key::HotKey,
    wire::{JsonText, Micros, position_param},
};
use crate::{
    Error, Filter, Result,
    filter::{Bounds, FilterItem, Fragment, PredicateGroup, Side},
    json::write_string,
};

/// A parameter of a statement.
pub(super) type Param<'a> = Box<dyn ToSql + Sync + Send + 'a>;

/// The most parameters that the protocol can count.
const MAX_PARAMS: usize = u16::MAX as usize;

/// The parameters as the driver takes them, if there are not too many.
pub(super) fn bound<'a>(params: &'a [Param<'_>]) -> Result<Vec<&'a (dyn ToSql + Sync)>> {
    if params.len() > MAX_PARAMS {
        return Err(Error::invalid_input(format!(
            "the filter has {} parts, more than the {MAX_PARAMS} that a statement can bind; match a common tag or type \
             instead of so many keys",
            params.len()
        )));
    }
    Ok(params.iter().map(|param| &**param as _).collect())
}

/// The condition on the table's alias `e`. Its parameters follow those already in `params`.
pub(super) fn selection<'a>(which: &'a Filter, bounds: Bounds, keys: &[HotKey], params: &mut Vec<Param<'a>>) -> String {
    let is_bounded = bounds.after.is_some_and(|after| after > 0) || bounds.until.is_some();
    let mut sql = filter(which, Indexes { keys, is_bounded, by_types: true }, params);
    sql.push_str(&within(bounds, params));
    sql
}

/// The same for a statement that is planned once, for any values and without bounds: it looks up the tags of an item,
/// or what its events contain, and compares the types. Without knowing how rare the values are, the planner would also
/// search by the types, which may be half of the log.
pub(super) fn planned_once<'a>(which: &'a Filter, keys: &[HotKey], params: &mut Vec<Param<'a>>) -> String {
    filter(which, Indexes { keys, is_bounded: false, by_types: false }, params)
}

/// The additional conditions of the bounds, as ` AND …`.
pub(super) fn within(bounds: Bounds, params: &mut Vec<Param<'_>>) -> String {
    let mut sql = String::new();
    let mut bound = |comparison: &str, param| {
        params.push(param);
        let _ = write!(sql, " AND e.{comparison} ${}", params.len());
    };
    // All positions are after 0.
    if let Some(after) = bounds.after.filter(|after| *after > 0) {
        bound("position >", Box::new(position_param(after)));
    }
    if let Some(until) = bounds.until {
        bound("position <=", Box::new(position_param(until)));
    }
    if let Some(from) = bounds.occurred_from {
        bound("occurred_at >=", Box::new(Micros(from)));
    }
    if let Some(until) = bounds.occurred_until {
        bound("occurred_at <=", Box::new(Micros(until)));
    }
    sql
}

/// The indexes that a statement may use.
#[derive(Clone, Copy)]
pub(super) struct Indexes<'k> {
    /// The keys that have an index with the position.
    pub(super) keys: &'k [HotKey],
    /// Whether the statement also has a condition on positions.
    pub(super) is_bounded: bool,
    /// Whether it may search by types where an item also asks for something else.
    pub(super) by_types: bool,
}

impl Indexes<'_> {
    /// Adds to a containment of `$` what follows from it, and what the keys' indexes can find.
    fn equal(self, fragment: &Fragment, contained: &str) -> String {
        let keys = || self.keys.iter().filter(|key| key.is_in(fragment));
        let equal =
            keys().map(|key| format!(" AND {} = {}", key.sql(&format!("e.{}", key.column())), key.sql("$::jsonb")));
        let equal: String = equal.collect();
        match (equal.is_empty(), self.is_bounded && keys().any(|key| key.is_all_of(fragment))) {
            (true, _) => contained.to_owned(),
            (false, false) => format!("({contained}{equal})"),
            // No index on the containment may be used here: without the value, the planner assumes that every value is
            // rare, and would prefer that index, with everything outside the bounds.
            (false, true) => format!("(({contained}) IS TRUE{equal})"),
        }
    }
}

/// The condition without bounds.
pub(super) fn filter<'a>(filter: &'a Filter, indexes: Indexes<'_>, params: &mut Vec<Param<'a>>) -> String {
    let Some(items) = filter.items() else { return "true".to_owned() };
    let items: Vec<String> = items.map(|one| item(one, indexes, params)).collect();
    format!("({})", items.join(" OR "))
}

fn item<'a>(item: &'a FilterItem, indexes: Indexes<'_>, params: &mut Vec<Param<'a>>) -> String {
    let mut bind = |comparison: &str, param: Param<'a>| {
        params.push(param);
        comparison.replace('$', &format!("${}", params.len()))
    };
    let mut all = Vec::new();
    let has_tags = item.tags().len() > 0;
    if item.types().len() > 0 {
        // After `IS TRUE` it matches the same events, but no index is used for it.
        let is_searched = indexes.by_types || !has_tags && item.predicates().is_none();
        let one_of = if is_searched { "e.type = ANY ($)" } else { "(e.type = ANY ($)) IS TRUE" };
        all.push(bind(one_of, Box::new(item.types().collect::<Vec<_>>())));
    }
    if has_tags {
        // The second part follows from the first, and tells the planner that the index on tags, which has no events
        // without tags, holds all of them.
        let contained = "e.tags OPERATOR(pg_catalog.@>) $ AND e.tags OPERATOR(pg_catalog.<>) '{}'";
        all.push(bind(contained, Box::new(item.tags().collect::<Vec<_>>())));
    }
    if let Some(group) = item.predicates() {
        let contained: Vec<String> = group
            .fragments()
            .map(|fragment| {
                let contained = match fragment.side() {
                    Side::Payload => "e.payload @> $",
                    Side::Metadata => "e.metadata @> $",
                };
                bind(&indexes.equal(fragment, contained), Box::new(JsonText(fragment.json())))
            })
            .collect();
        all.push(match group {
            PredicateGroup::AnyOf(_) => format!("({})", contained.join(" OR ")),
            PredicateGroup::AllOf(_) => contained.join(" AND "),
        });
    }
    format!("({})", all.join(" AND "))
}

const USUAL_ITEMS: usize = 256;

/// The filter as data for the append procedure; `migrations/V2__append.sql` describes its form.
pub(super) fn items_json(filter: &Filter) -> String {
    let Some(items) = filter.items() else { return "[{}]".to_owned() };
    let mut json = String::with_capacity(USUAL_ITEMS);
    json.push('[');
    write_list(&mut json, ",", items, item_json);
    json.push(']');
    json
}

fn item_json(json: &mut String, item: &FilterItem) {
    let part = |json: &mut String, name: &str| {
        let begin = if json.ends_with('{') { "\"" } else { ",\"" };
        json.extend([begin, name, "\":"]);
    };
    json.push('{');
    if item.types().len() > 0 {
        part(json, "types");
        write_texts(json, item.types());
    }
    if item.tags().len() > 0 {
        part(json, "tags");
        write_texts(json, item.tags());
    }
    if let Some(group) = item.predicates() {
        part(json, "groups");
        let write = |json: &mut String, fragment: &Fragment| {
            let side = match fragment.side() {
                Side::Payload => "{\"payload\":",
                Side::Metadata => "{\"metadata\":",
            };
            json.extend([side, fragment.json(), "}"]);
        };
        json.push_str("[[");
        let between = match group {
            PredicateGroup::AnyOf(_) => ",",
            PredicateGroup::AllOf(_) => "],[",
        };
        write_list(json, between, group.fragments(), write);
        json.push_str("]]");
    }
    json.push('}');
}

fn write_texts<'a>(json: &mut String, texts: impl Iterator<Item = &'a str>) {
    json.push('[');
    write_list(json, ",", texts, write_string);
    json.push(']');
}

fn write_list<T>(json: &mut String, between: &str, items: impl Iterator<Item = T>, write: impl Fn(&mut String, T)) {
    for (index, item) in items.enumerate() {
        if index > 0 {
            json.push_str(between);
        }
        write(json, item);
    }
}
