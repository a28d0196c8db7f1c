//! Builds a filter from options.

use clap::Args;
use mainstem::{Criteria, Filter, Predicate};
use serde_json::value::RawValue;

use crate::failure::{Failure, Result};

/// Selects events. Without any of these options, every event matches.
#[derive(Args, Debug)]
pub(crate) struct FilterArgs {
    /// Select events of this type; if repeated, of any of these types
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Select events with this tag; if repeated, with all of these tags
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Select events whose payload contains this JSON, such as '{"BookID": "b-1"}'; if repeated, all of these values
    #[arg(long, value_name = "JSON")]
    payload: Vec<String>,
    /// Select events whose metadata contains this JSON; if repeated, all of these values
    #[arg(long, value_name = "JSON")]
    metadata: Vec<String>,
    /// Select events by a complete filter in the library's JSON form, such as '{"matching": [{"any_type_of": ["BookLent"]}]}'
    #[arg(long, value_name = "JSON", conflicts_with_all = ["types", "tags", "payload", "metadata"])]
    filter: Option<String>,
}

impl FilterArgs {
    pub(crate) fn filter(&self) -> Result<Filter> {
        if let Some(text) = &self.filter {
            return parse("--filter", text);
        }
        let mut criteria = Criteria::new();
        if !self.types.is_empty() {
            criteria = criteria.any_type_of(self.types.iter().map(String::as_str));
        }
        if !self.tags.is_empty() {
            criteria = criteria.all_tags_of(self.tags.iter().map(String::as_str));
        }
        for text in &self.payload {
            criteria = criteria.all_predicates_of([Predicate::payload_contains(&json("--payload", text)?)]);
        }
        for text in &self.metadata {
            criteria = criteria.all_predicates_of([Predicate::metadata_contains(&json("--metadata", text)?)]);
        }
        if criteria.is_empty() {
            return Ok(Filter::any_event());
        }
        criteria.finish().map_err(|error| Failure::usage(format!("the filter: {error}")))
    }
}

/// The text of a value, since a parsed one would round its numbers.
fn json(option: &str, text: &str) -> Result<Box<RawValue>> {
    serde_json::from_str(text).map_err(|error| Failure::usage(format!("{option} {text:?} is not JSON: {error}")))
}

/// Parses a filter in the library's JSON form.
pub(crate) fn parse(what: &str, text: &str) -> Result<Filter> {
    serde_json::from_str(text).map_err(|error| Failure::usage(format!("{what} is not a filter: {error}")))
}
