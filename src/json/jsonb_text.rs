//! The text form of `jsonb`: members, numbers and escapes may differ from the input, the value is the same.

use super::{
    number,
    value::{Value, escaped},
};

/// Writes a document as PostgreSQL does: members ordered by the length of their keys and then by their bytes, numbers
/// written out with the digits that they had after the point, and no more escapes than necessary.
pub(super) fn jsonb_text(value: &Value<'_>) -> String {
    let mut text = String::new();
    write(&mut text, value);
    text
}

fn write(text: &mut String, value: &Value<'_>) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(bool) => text.push_str(if *bool { "true" } else { "false" }),
        Value::Number(number) => text.push_str(&number::written_out(number)),
        Value::String(string) => write_string(text, string),
        Value::Array(elements) => {
            text.push('[');
            for (index, element) in elements.iter().enumerate() {
                text.push_str(if index > 0 { ", " } else { "" });
                write(text, element);
            }
            text.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            // They are in the order of their bytes, and the sort is stable.
            members.sort_by_key(|(key, _)| key.len());
            text.push('{');
            for (index, (key, member)) in members.into_iter().enumerate() {
                text.push_str(if index > 0 { ", " } else { "" });
                write_string(text, key);
                text.push_str(": ");
                write(text, member);
            }
            text.push('}');
        }
        Value::TooDeep(deep) => text.push_str(deep),
    }
}

fn write_string(text: &mut String, string: &str) {
    escaped(text, string, |text, control| match control {
        '\u{8}' => text.push_str("\\b"),
        '\u{c}' => text.push_str("\\f"),
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        other => text.push_str(&format!("\\u{:04x}", u32::from(other))),
    });
}

#[cfg(test)]
mod tests {
    use crate::Json;

    #[test]
    fn jsonb_text_is_formatted_as_postgresql_formats_it() {
        for (given, text) in [
            ("1e2", "100"),
            ("1.50e1", "15.0"),
            ("1.5e1", "15"),
            ("-1.25E-2", "-0.0125"),
            ("-0", "0"),
            ("-0.00", "0.00"),
            ("0e5", "0"),
            ("0e-2", "0.00"),
            ("120.0", "120.0"),
            ("1E0", "1"),
            ("9007199254740993", "9007199254740993"),
            (r#"{"bb":1,"a":2,"c":3,"a":4}"#, r#"{"a": 4, "c": 3, "bb": 1}"#),
            (r#"{"é":1,"zz":2,"z":3}"#, r#"{"z": 3, "zz": 2, "é": 1}"#),
            (r#""\u00e9\/\u0041\b\f\n\r\t\u0001\u007f\"\\""#, "\"é/A\\b\\f\\n\\r\\t\\u0001\u{7f}\\\"\\\\\""),
            (r"[ ]", "[]"),
            (r"{ }", "{}"),
            (r"[1,[2 ],{}]", "[1, [2], {}]"),
        ] {
            assert_eq!(Json::from_text(given).unwrap().as_jsonb().as_str(), text, "{given}");
        }
    }
}
