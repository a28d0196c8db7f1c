//! Keeps passwords out of everything that is printed.
//!
//! The library's messages contain none. This covers what others quote, above all the parser of the command line.

const HIDDEN: &str = "…";

/// The text without the passwords in its URLs and `password=` settings.
pub(crate) fn hidden(text: &str) -> String {
    without_settings(&without_userinfo(text))
}

fn without_userinfo(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, behind) = rest.split_at(at + 3);
        shown.push_str(before);
        // The host begins after the last @ of the line, since a password may contain anything that can follow it.
        let end = behind.find('\n').unwrap_or(behind.len());
        let url = &behind[..end];
        match (url.find(':'), url.rfind('@')) {
            (Some(colon), Some(host)) if colon < host => {
                shown.push_str(&url[..=colon]);
                shown.push_str(HIDDEN);
                shown.push_str(&url[host..]);
            }
            _ => shown.push_str(url),
        }
        rest = &behind[end..];
    }
    shown + rest
}

fn without_settings(text: &str) -> String {
    const NAME: &str = "password";
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(NAME) {
        let behind = &rest[at + NAME.len()..];
        // The driver allows blanks on both sides.
        let Some(value) = behind.trim_start().strip_prefix('=').map(str::trim_start) else {
            shown.push_str(&rest[..rest.len() - behind.len()]);
            rest = behind;
            continue;
        };
        shown.push_str(&rest[..rest.len() - value.len()]);
        shown.push_str(HIDDEN);
        rest = &value[len_of_value(value)..];
    }
    shown + rest
}

/// The length of the value in bytes. A backslash escapes the next character, also within quotation marks.
fn len_of_value(text: &str) -> usize {
    let is_quoted = text.starts_with('\'');
    let mut is_hidden = false;
    for (at, c) in text.char_indices().skip(usize::from(is_quoted)) {
        match c {
            _ if std::mem::take(&mut is_hidden) => {}
            '\\' => is_hidden = true,
            '\'' if is_quoted => return at + 1,
            '&' | '\'' if !is_quoted => return at,
            _ if !is_quoted && c.is_whitespace() => return at,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::hidden;

    #[test]
    fn no_password_is_left() {
        for (text, shown) in [
            ("unexpected 'postgres://a:s3cret@h/d' found", "unexpected 'postgres://a:…@h/d' found"),
            ("postgres://a:s3@cret@h/d,postgres://b:s3cret@i/d x", "postgres://a:…@i/d x"),
            ("host=h password=s3cret user=a", "host=h password=… user=a"),
            ("'host=h password='s3 cret' user=a'", "'host=h password=… user=a'"),
            ("postgres://h/d?user=a&password=s3cret&x=1", "postgres://h/d?user=a&password=…&x=1"),
            ("host=h password = s3cret user=a", "host=h password = … user=a"),
            (r"password='a\'s3cret' user=a", "password=… user=a"),
            (r"password=a\ s3cret user=a", "password=… user=a"),
            ("password='s3cret", "password=…"),
            ("no password was given, password=s3cret", "no password was given, password=…"),
            ("see https://example.org/a", "see https://example.org/a"),
        ] {
            assert_eq!(hidden(text), shown);
        }
    }
}
