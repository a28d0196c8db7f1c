//! A filter from options.

use clap::Args;
use mainstem::Filter;
use serde_json::{json, value::RawValue};

use crate::failure::{Failure, Result};

/// Which events. Without any of these: every one.
#[derive(Args, Debug)]
pub(crate) struct FilterArgs {
    /// Events of this type; given several times, of any of them
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Events that have this tag; given several times, all of them
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Events whose payload contains this JSON, such as '{"BookID": "b-1"}'; given several times, all of them
    #[arg(long, value_name = "JSON")]
    payload: Vec<String>,
    /// The same for the metadata
    #[arg(long, value_name = "JSON")]
    metadata: Vec<String>,
    /// A whole filter as the library writes it, such as '{"matching": [{"any_type_of": ["BookLent"]}]}'
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
                // As text: a value would round its numbers.
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

/// A filter as the library writes it.
pub(crate) fn parse(what: &str, text: &str) -> Result<Filter> {
    serde_json::from_str(text).map_err(|error| Failure::usage(format!("{what} is not a filter: {error}")))
}
