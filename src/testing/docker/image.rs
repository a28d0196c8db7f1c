//! The name of an image.

use std::fmt;

use crate::{Error, Result};

const VARIABLE: &str = "MAINSTEM_POSTGRES_IMAGE";
const OFFICIAL: &str = "postgres:18";

/// `name:tag`, possibly preceded by a registry with a port; or `name@sha256:…`, which its last colon splits as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) name: String,
    pub(super) tag: String,
}

impl Image {
    /// The requested image, or the one in the environment, or the official one.
    pub(super) fn choose(asked: Option<&str>) -> Result<Self> {
        match (asked, std::env::var(VARIABLE)) {
            (Some(asked), _) => Self::parse(asked),
            (None, Ok(named)) if !named.is_empty() => Self::parse(&named),
            (None, _) => Self::parse(OFFICIAL),
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let (name, tag) = match text.rsplit_once(':') {
            // Before a slash it is the port of a registry.
            Some((name, tag)) if !tag.contains('/') => (name, tag),
            _ => (text, "latest"),
        };
        if name.is_empty() || tag.is_empty() {
            return Err(Error::configuration(format!("{text:?} is no name of an image such as {OFFICIAL}")));
        }
        if let Some((image, algorithm)) = name.split_once('@') {
            let is_digest = algorithm == "sha256"
                && tag.len() == 64
                && tag.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
            if image.is_empty() || !is_digest {
                let message =
                    format!("{text:?} has no digest after its @: write name@sha256: and 64 hexadecimal digits");
                return Err(Error::configuration(message));
            }
        }
        Ok(Self { name: name.to_owned(), tag: tag.to_owned() })
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_tag_and_perhaps_a_registry_with_a_port() {
        for (text, name, tag) in [
            ("postgres:17", "postgres", "17"),
            ("postgres", "postgres", "latest"),
            ("localhost:5000/postgres", "localhost:5000/postgres", "latest"),
            ("localhost:5000/postgres:15-alpine", "localhost:5000/postgres", "15-alpine"),
        ] {
            assert_eq!(Image::parse(text).unwrap(), Image { name: name.to_owned(), tag: tag.to_owned() });
        }
        for wrong in ["", ":17", "postgres:"] {
            assert!(Image::parse(wrong).unwrap_err().to_string().contains("no name of an image"), "{wrong}");
        }
    }

    #[test]
    fn a_name_may_have_a_digest_which_pins_it() {
        let digest = "0123456789abcdef".repeat(4);
        for name in ["postgres", "postgres:17", "localhost:5000/postgres"] {
            let text = format!("{name}@sha256:{digest}");
            assert_eq!(Image::parse(&text).unwrap().to_string(), text);
        }
        let (short, capitals) = (&digest[1..], digest.to_uppercase());
        for wrong in [
            "postgres@sha256:0123".to_owned(),
            format!("postgres@sha256:{short}"),
            format!("postgres@sha256:{capitals}"),
            format!("postgres@md5:{digest}"),
            format!("postgres@{digest}"),
            format!("@sha256:{digest}"),
            "postgres@17".to_owned(),
        ] {
            assert!(Image::parse(&wrong).unwrap_err().to_string().contains("no digest after its @"), "{wrong}");
        }
    }
}
