//! The types and traits of other crates that the public API names. A new major version of such a crate requires one of ours.

use std::{collections::BTreeSet, error::Error};

use serde_json::Value;

/// Their full names, without those of `std` and those that only a blanket or auto implementation names.
pub(crate) fn of(json: &str) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let json: Value = serde_json::from_str(json)?;
    let mut names = BTreeSet::new();
    for item in json["index"].as_object().ok_or("no index: this is not rustdoc's JSON")?.values() {
        let implementation = &item["inner"]["impl"];
        let is_ours = implementation["blanket_impl"].is_null() && implementation["is_synthetic"] != Value::Bool(true);
        if item["crate_id"] == 0 && is_ours {
            collect(&item["inner"], &json["paths"], &mut names);
        }
    }
    Ok(names)
}

/// Collects paths, which are ids with arguments, from all parts of an item.
fn collect(part: &Value, paths: &Value, names: &mut BTreeSet<String>) {
    match part {
        Value::Object(fields) => {
            if let (Some(id), true) = (fields.get("id"), fields.contains_key("args")) {
                names.extend(external_name(&paths[id.to_string()]));
            }
            fields.values().for_each(|field| collect(field, paths, names));
        }
        Value::Array(parts) => parts.iter().for_each(|part| collect(part, paths, names)),
        _ => {}
    }
}

fn external_name(path: &Value) -> Option<String> {
    let parts: Vec<&str> = path["path"].as_array()?.iter().filter_map(Value::as_str).collect();
    let is_external = path["crate_id"] != 0 && !["alloc", "core", "std"].contains(parts.first()?);
    is_external.then(|| parts.join("::"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::of;

    #[test]
    fn types_of_other_crates_are_found_wherever_they_are() {
        let path = |id: u32| json!({"path": "as written", "id": id, "args": null});
        let json = json!({
            "index": {
                "1": {"crate_id": 0, "inner": {"function": {"sig": {"inputs": [["self", {"resolved_path": path(10)}]]}}}},
                "2": {"crate_id": 0, "inner": {"struct": {"generics": {"bounds": [{"trait": path(11)}, {"trait": path(12)}]}}}},
                "3": {"crate_id": 0, "inner": {"impl": {"trait": path(13), "blanket_impl": {"generic": "T"}}}},
                "4": {"crate_id": 0, "inner": {"impl": {"trait": path(14), "blanket_impl": null, "is_synthetic": true}}},
                "5": {"crate_id": 7, "inner": {"struct": {"field": path(15)}}},
                "6": {"crate_id": 0, "inner": {"struct": {"field": path(16)}}},
            },
            "paths": {
                "10": {"crate_id": 3, "path": ["driver", "Row"]},
                "11": {"crate_id": 4, "path": ["pool", "Manage"]},
                "12": {"crate_id": 1, "path": ["core", "clone", "Clone"]},
                "13": {"crate_id": 5, "path": ["blanket", "Into"]},
                "14": {"crate_id": 6, "path": ["pins", "Fields"]},
                "15": {"crate_id": 7, "path": ["others", "Own"]},
                "16": {"crate_id": 0, "path": ["mainstem", "Lsn"]},
            },
        });
        let found = of(&json.to_string()).unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["driver::Row", "pool::Manage"]);
    }

    #[test]
    fn another_file_is_an_error() {
        assert!(of("{}").is_err());
    }
}
