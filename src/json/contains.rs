//! PostgreSQL's `jsonb @> jsonb`.

use super::Value;

/// Whether `document @> fragment`.
///
/// Objects contain the members that they have, recursively; arrays are sets of elements, at every level; scalars
/// contain their equals, without coercion. One exception, at the top only: an array contains a bare scalar that is
/// one of its elements.
pub(crate) fn contains(document: &Value<'_>, fragment: &Value<'_>) -> bool {
    match (document, fragment) {
        (Value::Array(elements), scalar) if !scalar.is_container() => elements.contains(scalar),
        _ => nested(document, fragment),
    }
}

fn nested(document: &Value<'_>, fragment: &Value<'_>) -> bool {
    match (document, fragment) {
        (Value::Object(document), Value::Object(fragment)) => fragment.iter().all(|(key, wanted)| {
            document
                .binary_search_by(|(candidate, _)| candidate.cmp(key))
                .is_ok_and(|found| nested(&document[found].1, wanted))
        }),
        (Value::Array(document), Value::Array(fragment)) => {
            fragment.iter().all(|wanted| document.iter().any(|element| nested(element, wanted)))
        }
        _ => !document.is_container() && document == fragment,
    }
}
