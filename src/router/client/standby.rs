//! What a standby accepts although it does not have the intended effect.

use crate::error::{Error, ErrorKind, Result};

/// The prefixes of the functions that take advisory locks. A standby grants them, but no other session sees them.
const LOCKS: [&[u8]; 3] = [b"pg_advisory_lock", b"pg_advisory_xact_lock", b"pg_try_advisory_"];

/// Refuses a statement that is only meaningful on a primary, though a replica would run it.
pub(in crate::router) fn check(sql: &str) -> Result<()> {
    if takes_advisory_lock(sql.as_bytes()) {
        let message = "an advisory lock on a replica is one that nobody else sees; nothing was sent: take it on a strong \
                       connection";
        return Err(Error::new(ErrorKind::ReadOnly, message));
    }
    Ok(())
}

/// Whether it calls one of these functions by name. Calls inside a user's function are not seen.
fn takes_advisory_lock(sql: &[u8]) -> bool {
    let calls = |rest: &[u8]| {
        LOCKS.iter().any(|name| rest.len() > name.len() && rest[..name.len()].eq_ignore_ascii_case(name)) && {
            let is_name = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
            let mut after =
                rest.iter().skip_while(is_name).skip_while(|byte| **byte == b'"' || byte.is_ascii_whitespace());
            after.next() == Some(&b'(')
        }
    };
    (0..sql.len()).any(|start| matches!(sql[start], b'p' | b'P') && calls(&sql[start..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_from_words() {
        for sql in [
            "SELECT pg_advisory_lock(1)",
            "select PG_TRY_ADVISORY_LOCK_SHARED (1, 2)",
            "SELECT pg_catalog.\"pg_advisory_xact_lock\"(1)",
            "WITH a AS (SELECT pg_try_advisory_xact_lock\n($1)) TABLE a",
        ] {
            assert_eq!(check(sql).unwrap_err().kind(), ErrorKind::ReadOnly, "{sql}");
        }
        for sql in [
            "SELECT pg_advisory_unlock(1)",
            "SELECT pg_advisory_unlock_all()",
            "SELECT query FROM pg_stat_activity WHERE query LIKE '%pg_advisory_lock%'",
            "SELECT pg_advisory_lock",
            "SELECT 1",
            "",
        ] {
            check(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
    }
}
