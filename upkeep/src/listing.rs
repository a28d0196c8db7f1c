//! The public API, one item per line.

use std::{error::Error, fmt::Write};

use serde_json::Value;

/// All public items with their signatures, bounds and implementations, including auto traits, since a type that is no
/// longer `Send` breaks its users. Then what implementors of a trait have to write: a new method with a body is not a break.
pub(crate) fn of(json: &str, path: &str) -> Result<String, Box<dyn Error>> {
    let api = public_api::Builder::from_rustdoc_json(path).omit_blanket_impls(true).build().map_err(|error| {
        format!("cannot read {path} (is it from another Rust than scripts/public-api names?): {error}")
    })?;
    let mut listing = merged(&api.to_string());
    for name in required(&serde_json::from_str(json)?) {
        writeln!(listing, "required {name}")?;
    }
    Ok(listing)
}

/// The same with the blocks `impl X` of one type as one: into how many files its methods are divided is nothing users see.
fn merged(listing: &str) -> String {
    let mut blocks: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in listing.lines() {
        match blocks.last_mut() {
            _ if !line.starts_with("pub ") => {
                if blocks.last().is_none_or(|(head, _)| *head != line) {
                    blocks.push((line, Vec::new()));
                }
            }
            // An item that belongs to no block stands alone, as the modules and types do.
            Some((head, items)) if head.starts_with("impl") && is_in_a_block(line) => items.push(line),
            _ => blocks.push((line, Vec::new())),
        }
    }
    let mut merged = String::new();
    for (head, mut items) in blocks {
        items.sort_by_key(|item| item.split_once(" mainstem::").map(|(_, name)| name));
        for line in std::iter::once(head).chain(items) {
            merged.push_str(line);
            merged.push('\n');
        }
    }
    merged
}

/// Whether it is a method, or a constant or type of an implementation.
fn is_in_a_block(line: &str) -> bool {
    line.contains(" fn ") || ["pub const ", "pub type "].iter().any(|word| line.starts_with(word))
}

/// The functions and types of public traits that have no default.
fn required(json: &Value) -> Vec<String> {
    let mut names = Vec::new();
    for item in json["index"].as_object().into_iter().flat_map(|index| index.values()) {
        let members = item["inner"]["trait"]["items"].as_array().into_iter().flatten();
        for member in members {
            let member = &json["index"][member.to_string()];
            let inner = &member["inner"];
            let is_required = match (inner.get("function"), inner.get("assoc_type")) {
                (Some(function), _) => function["has_body"] == Value::Bool(false),
                (None, Some(kind)) => kind["type"].is_null(),
                (None, None) => inner["assoc_const"]["value"].is_null(),
            };
            if let (true, Some(of), Some(name)) = (is_required, item["name"].as_str(), member["name"].as_str()) {
                names.push(format!("{of}::{name}"));
            }
        }
    }
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{merged, required};

    #[test]
    fn methods_are_listed_alike_in_whatever_files_they_stand() {
        let block = |items: &[&str]| {
            items.iter().map(|item| item.replace("X", "mainstem::X")).collect::<Vec<_>>().join("\n") + "\n"
        };
        let one = block(&[
            "pub struct X",
            "impl X",
            "pub fn X::b(&self)",
            "pub async fn X::c(&self)",
            "pub const X::d: u8",
            "impl Drop for X",
            "pub fn X::drop(&mut self)",
            "pub struct Y",
        ]);
        let two = block(&[
            "pub struct X",
            "impl X",
            "pub const X::d: u8",
            "pub async fn X::c(&self)",
            "impl X",
            "pub fn X::b(&self)",
            "impl Drop for X",
            "pub fn X::drop(&mut self)",
            "pub struct Y",
        ]);
        assert_eq!(merged(&two), one);
        assert_eq!(merged(&one), one);
    }

    #[test]
    fn what_has_no_default_is_required() {
        let json = json!({"index": {
            "1": {"name": "Store", "inner": {"trait": {"items": [2, 3, 4, 5]}}},
            "2": {"name": "read", "inner": {"function": {"has_body": false}}},
            "3": {"name": "close", "inner": {"function": {"has_body": true}}},
            "4": {"name": "Row", "inner": {"assoc_type": {"type": null}}},
            "5": {"name": "LIMIT", "inner": {"assoc_const": {"value": "3"}}},
            "6": {"name": "Lonely", "inner": {"struct": {}}},
        }});
        assert_eq!(required(&json), ["Store::Row", "Store::read"]);
    }
}
