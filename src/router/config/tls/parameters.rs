//! The TLS parameters of a URL. The driver knows half of them, and refuses the other half.

use percent_encoding::percent_decode_str;

/// The TLS parameters of libpq in a URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::router) struct TlsParameters {
    pub(super) mode: Option<String>,
    pub(super) root: Option<String>,
    pub(super) certificate: Option<String>,
    pub(super) key: Option<String>,
}

impl TlsParameters {
    /// Splits these parameters off the URL, or the libpq-style `key=value` string. What cannot be read is left in it:
    /// the driver refuses it.
    pub(in crate::router) fn split(url: &str) -> (String, Self) {
        let mut taken = Self::default();
        let rest = if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            taken.take_from_url(url)
        } else {
            taken.take_from_pairs(url)
        };
        (rest.unwrap_or_else(|| url.to_owned()), taken)
    }

    fn take_from_url(&mut self, url: &str) -> Option<String> {
        // As the driver does: a password may contain anything but an @.
        let hosts = url.find('@').map_or(0, |at| at + 1);
        let question = hosts + url[hosts..].find('?')?;
        let (head, query) = url.split_at(question + 1);
        let mut rest = Vec::new();
        for piece in query.split('&') {
            let decoded = |text| percent_decode_str(text).decode_utf8_lossy();
            let is_ours = piece.split_once('=').is_some_and(|(key, value)| self.take(&decoded(key), &decoded(value)));
            if !is_ours {
                rest.push(piece);
            }
        }
        Some(format!("{head}{}", rest.join("&")))
    }

    fn take_from_pairs(&mut self, text: &str) -> Option<String> {
        let (mut rest, mut left) = (text.trim_start(), String::new());
        while !rest.is_empty() {
            let (key, after) = rest.split_once('=')?;
            let (value, after) = first_value(after.trim_start())?;
            if !self.take(key.trim_end(), &value) {
                left.push_str(&rest[..rest.len() - after.len()]);
                left.push(' ');
            }
            rest = after.trim_start();
        }
        Some(left)
    }

    /// Adds those of the others that are not set here.
    pub(in crate::router) fn or(&mut self, others: &Self) {
        let both = [
            (&mut self.mode, &others.mode),
            (&mut self.root, &others.root),
            (&mut self.certificate, &others.certificate),
            (&mut self.key, &others.key),
        ];
        both.into_iter().for_each(|(own, other)| *own = own.take().or_else(|| other.clone()));
    }

    /// Takes a parameter if it is one of ours, and returns whether it is.
    pub(in crate::router) fn take(&mut self, key: &str, value: &str) -> bool {
        let place = match key {
            "sslmode" => &mut self.mode,
            "sslrootcert" => &mut self.root,
            "sslcert" => &mut self.certificate,
            "sslkey" => &mut self.key,
            _ => return false,
        };
        *place = Some(value.to_owned());
        true
    }
}

/// The value at the beginning of a text of `key=value` pairs, and the rest. None if its quote is not closed.
fn first_value(text: &str) -> Option<(String, &str)> {
    let (is_quoted, text) = match text.strip_prefix('\'') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (mut value, mut characters) = (String::new(), text.char_indices());
    while let Some((at, character)) = characters.next() {
        match character {
            '\'' if is_quoted => return Some((value, &text[at + 1..])),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ if !is_quoted && character.is_whitespace() => return Some((value, &text[at..])),
            _ => value.push(character),
        }
    }
    (!is_quoted).then_some((value, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_parameters_are_removed_from_urls_and_key_value_strings() {
        let cases = [
            ("postgres://a:b@h/d", "postgres://a:b@h/d", [None, None, None]),
            (
                "postgres://a:s?slmode=x@h/d?sslmode=verify-full&options=-c%20jit%3Don&sslrootcert=/a%20b.pem",
                "postgres://a:s?slmode=x@h/d?options=-c%20jit%3Don",
                [Some("verify-full"), Some("/a b.pem"), None],
            ),
            ("postgresql://h?sslmode=require", "postgresql://h?", [Some("require"), None, None]),
            (
                r"host=h sslmode = require password='it\'s sslkey=no' sslrootcert='/a b.pem' sslkey=/k port=1",
                r"host=h password='it\'s sslkey=no' port=1 ",
                [Some("require"), Some("/a b.pem"), Some("/k")],
            ),
            ("host=h password='open sslmode=x", "host=h password='open sslmode=x", [None, None, None]),
        ];
        for (url, rest, [mode, root, key]) in cases {
            let (left, taken) = TlsParameters::split(url);
            assert_eq!(left, rest);
            assert_eq!(
                [taken.mode.as_deref(), taken.root.as_deref(), taken.key.as_deref()],
                [mode, root, key],
                "{url}"
            );
            left.parse::<tokio_postgres::Config>().map_or_else(|_| assert!(url.contains("open")), drop);
        }
    }
}
