//! Texts in the form in which PostgreSQL reads an array of them.

/// The text of an array of texts. Everything is quoted, so no character in it has a special meaning.
pub(in crate::store) fn array_text<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::from("{");
    for one in texts {
        text.push_str(if text.len() > 1 { ",\"" } else { "\"" });
        for character in one.chars() {
            if matches!(character, '"' | '\\') {
                text.push('\\');
            }
            text.push(character);
        }
        text.push('"');
    }
    text.push('}');
    text
}
