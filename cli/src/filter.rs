//! Builds a filter from options.

use clap::Args;
use mainstem::Filter;
use serde_json::{json, value::RawValue};

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
        let predicates = |option: &str, side: &str, texts: &[String]| {
            let parsed = texts.iter().map(|text| {
                let value: Box<RawValue> = serde_json::from_str(text)
                    .map_err(|error| Failure::usage(format!("{option} {text:?} is not JSON: {error}")))?;
                // Keep the text: a parsed value would round its numbers.
                Ok(format!("{{\"{side}\":{value}}}"))
            });
            parsed.collect::<Result<Vec<_>>>()
        };
        let mut parts = Vec::new();
        if !self.types.is_empty() {
            parts.push(format!("\"any_type_of\":{}", json!(self.types)));
        }
        if !self.tags.is_empty() {
            parts.push(format!("\"all_tags_of\":{}", json!(self.tags)));
        }
        let mut all = predicates("--payload", "payload", &self.payload)?;
        all.extend(predicates("--metadata", "metadata", &self.metadata)?);
        if !all.is_empty() {
            parts.push(format!("\"all_predicates_of\":[{}]", all.join(",")));
        }
        if parts.is_empty() {
            return Ok(Filter::any_event());
        }
        parse("the filter", &format!("{{\"matching\":[{{{}}}]}}", parts.join(",")))
    }
}

/// Parses a filter in the library's JSON form.
pub(crate) fn parse(what: &str, text: &str) -> Result<Filter> {
    serde_json::from_str(text).map_err(|error| Failure::usage(format!("{what} is not a filter: {error}")))
}
