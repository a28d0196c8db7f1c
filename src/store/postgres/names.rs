//! The names of a log in the database.

use std::fmt::{self, Write as _};

use sha2::{Digest, Sha256};

use crate::{
    error::{Error, Result},
    json::quoted,
};

/// The names in the migrations and statements, which the user's names replace.
const DEFAULT_SCHEMA: &str = "mainstem";
const DEFAULT_LOG: &str = "events";

/// The longest suffix of a name derived from a log's.
pub(super) const LONGEST_SUFFIX: &str = "_refuse_change";

/// PostgreSQL truncates longer identifiers silently.
const IDENTIFIER_BYTES: usize = 63;

/// The schema and the name of a log; one database can hold several logs.
///
/// The default is `mainstem.events`. Everything else that belongs to the log (indexes, the append procedure, the
/// history of its migrations) is in the same schema, under names that begin with the log's.
///
/// ```
/// # use mainstem::LogName;
/// let name = LogName::new("lending", "library log")?;
/// assert_eq!(name.to_string(), r#""lending"."library log""#);
/// assert!(LogName::new("lending", "").is_err());
/// # Ok::<(), mainstem::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogName {
    schema: String,
    log: String,
}

impl LogName {
    /// The longest name of a log, in bytes: 49, so the longest name derived from it still fits PostgreSQL's 63.
    pub const MAX_LOG_LEN: usize = IDENTIFIER_BYTES - LONGEST_SUFFIX.len();

    /// The longest name of a schema, in bytes: 63.
    pub const MAX_SCHEMA_LEN: usize = IDENTIFIER_BYTES;

    /// Creates a name from a schema and a log. Both are quoted, so case and spaces matter.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if a name is empty, too long, or contains a control character,
    /// `'`, `$` or `\` (which could end the text that it is put into), or if the schema's name begins with `pg_`, as
    /// those of the server do.
    pub fn new(schema: impl Into<String>, log: impl Into<String>) -> Result<Self> {
        let name = Self { schema: schema.into(), log: log.into() };
        check("schema", &name.schema, Self::MAX_SCHEMA_LEN)?;
        check("log", &name.log, Self::MAX_LOG_LEN)?;
        if name.schema.starts_with("pg_") {
            let message =
                format!("the name of the schema, {:?}, begins with pg_, which the server reserves", name.schema);
            return Err(Error::invalid_input(message));
        }
        Ok(name)
    }

    /// Returns the schema.
    #[must_use]
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Returns the name of the log within its schema.
    #[must_use]
    pub fn log(&self) -> &str {
        &self.log
    }

    /// Returns the channel on which appends to this log are announced, by the position of the last event; for programs
    /// that listen themselves.
    ///
    /// It is derived from the digest of both names, since a channel's name may be no longer than an identifier.
    #[must_use]
    pub fn channel(&self) -> String {
        let digest = Sha256::digest(self.to_string());
        digest[..16].iter().fold("mainstem_".to_owned(), |mut channel, byte| {
            let _ = write!(channel, "{byte:02x}");
            channel
        })
    }

    /// The quoted name of what belongs to the log under this suffix, without the schema.
    pub(super) fn with_suffix(&self, suffix: &str) -> String {
        format!("\"{}{suffix}\"", escaped(&self.log))
    }

    /// The same, with the schema.
    pub(super) fn full_with_suffix(&self, suffix: &str) -> String {
        format!("\"{}\".{}", escaped(&self.schema), self.with_suffix(suffix))
    }

    /// Replaces the default names in `sql` with these names.
    pub(super) fn put_into(&self, sql: &str) -> String {
        let (schema, log) = (escaped(&self.schema), escaped(&self.log));
        // One pass, so a name that looks like a default one is not replaced again.
        let mut rest = sql;
        let mut text = String::with_capacity(sql.len() + 256);
        while let Some(at) = rest.find(['"', '\'']) {
            text.push_str(&rest[..=at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(DEFAULT_SCHEMA)
                && after.starts_with(['"', '\''])
            {
                // In a literal, it is the name itself, not an identifier.
                text.push_str(if after.starts_with('\'') { &self.schema } else { &schema });
                rest = after;
            } else if let Some(after) = rest.strip_prefix(DEFAULT_LOG)
                && text.ends_with('"')
                && after.starts_with(['"', '_'])
            {
                text.push_str(&log);
                rest = after;
            } else {
                continue;
            }
            // The closing quote is not an opening one.
            if let Some(end) = rest.find(['"', '\'']) {
                text.push_str(&rest[..=end]);
                rest = &rest[end + 1..];
            }
        }
        text + rest
    }
}

impl Default for LogName {
    fn default() -> Self {
        Self { schema: DEFAULT_SCHEMA.to_owned(), log: DEFAULT_LOG.to_owned() }
    }
}

/// Quoted, as used in SQL.
impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\".\"{}\"", escaped(&self.schema), escaped(&self.log))
    }
}

fn check(what: &str, name: &str, limit: usize) -> Result<()> {
    let problem = if name.is_empty() {
        "is empty".to_owned()
    } else if name.len() > limit {
        format!("has {} bytes, more than the limit of {limit}", name.len())
    } else if let Some(c) = name.chars().find(|&c| c.is_control() || matches!(c, '\'' | '$' | '\\')) {
        format!("contains {c:?}")
    } else {
        return Ok(());
    };
    Err(Error::invalid_input(format!("the name of the {what}, {}, {problem}", quoted(name))))
}

fn escaped(name: &str) -> String {
    name.replace('"', "\"\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_into_identifiers_and_literals_and_nowhere_else() {
        let name = LogName::new("events", r#"my "mainstem" log"#).unwrap();
        let sql =
            r#"SELECT "mainstem"."events", "events_type", '"mainstem"."events"', 'mainstem', 'events', "eventual""#;
        let expected = r#"SELECT "events"."my ""mainstem"" log", "my ""mainstem"" log_type", '"events"."my ""mainstem"" log"', 'events', 'events', "eventual""#;
        assert_eq!(name.put_into(sql), expected);
        assert_eq!(LogName::default().put_into(sql), sql);
    }

    #[test]
    fn a_schema_in_a_literal_is_not_quoted_as_an_identifier() {
        let name = LogName::new(r#"a "b""#, "events").unwrap();
        let sql = r#"WHERE nspname = 'mainstem' AND oid = '"mainstem"."events"'::regclass"#;
        let expected = r#"WHERE nspname = 'a "b"' AND oid = '"a ""b"""."events"'::regclass"#;
        assert_eq!(name.put_into(sql), expected);
    }

    #[test]
    fn names_that_cannot_be_are_refused_with_the_reason() {
        let long = "x".repeat(50);
        for (schema, log, part) in [
            ("", "events", "schema"),
            ("s", "", "is empty"),
            ("s", &*long, "50 bytes"),
            ("s", "a'b", "'"),
            ("s", "a$body$", "$"),
            ("a\\", "events", "\\\\"),
            ("s\0", "events", "\\0"),
            ("pg_s", "events", "pg_, which"),
            ("s\n", "events", "\\n"),
        ] {
            let message = LogName::new(schema, log).unwrap_err().to_string();
            assert!(message.contains(part), "{message:?} does not say {part:?}");
        }
        assert!(LogName::new("x".repeat(63), "x".repeat(49)).is_ok());
    }
}
