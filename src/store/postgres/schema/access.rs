//! What database roles may do with a log.

use crate::{
    error::{Error, Result},
    store::postgres::{LogName, read::read_sql::Template},
};

/// What a role may do with a log, and no more.
///
/// | | reads | follows as a consumer | appends, saves snapshots | makes and changes tables, builds indexes |
/// |---|---|---|---|---|
/// | [`Reader`](Self::Reader) | yes | | | |
/// | [`Consumer`](Self::Consumer) | yes | yes | | |
/// | [`Writer`](Self::Writer) | yes | yes | yes | |
/// | [`Migrator`](Self::Migrator) | yes | yes | yes | yes |
///
/// Nobody may update, delete or truncate events: the log refuses it, whatever is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Access {
    /// For read-only components: queries, projections (which then save nothing), subscriptions.
    Reader,
    /// For components that follow the log and keep read models elsewhere: they save their progress, and write nothing
    /// to the log.
    Consumer,
    /// For components that make decisions.
    Writer,
    /// For installation and upgrades. The role owns what it creates, so one role must run all migrations of a log.
    Migrator,
}

impl LogName {
    /// Returns the SQL that gives a role this access to the log, for an administrator to review and run, with any tool.
    ///
    /// Run the migrator's SQL before its first [migration](crate::PostgresEventStore::migrate); it creates the schema,
    /// if it does not exist, and needs the privilege to do so. Run the SQL for the other roles after the migration, and
    /// again after each one that creates something new. The role itself must exist.
    ///
    /// ```
    /// # use mainstem::{LogName, schema::Access};
    /// # async fn run(admin: mainstem::Router) -> mainstem::Result<()> {
    /// let sql = LogName::default().grants(Access::Writer, "library_app")?;
    /// admin.client().await?.batch_execute(&sql).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the role name is invalid: empty, more than 63 bytes, or with
    /// a NUL character.
    pub fn grants(&self, access: Access, role: &str) -> Result<String> {
        if role.is_empty() || role.len() > Self::MAX_SCHEMA_LEN || role.contains('\0') {
            let limit = Self::MAX_SCHEMA_LEN;
            let message = format!("the name of the role, {role:?}, has not 1 to {limit} bytes without a NUL character");
            return Err(Error::invalid_input(message));
        }
        let role = format!("\"{}\"", role.replace('"', "\"\""));
        let sql = match access {
            Access::Reader => include_str!("../sql/grant_reader.sql"),
            Access::Consumer => include_str!("../sql/grant_consumer.sql"),
            Access::Writer => include_str!("../sql/grant_writer.sql"),
            Access::Migrator => include_str!("../sql/grant_migrator.sql"),
        };
        Ok(Template::new(self, sql).with(|_| &role))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn names_are_quoted_whatever_they_look_like() {
        let name = LogName::new("a /* role */", "b\"").unwrap();
        let sql = name.grants(Access::Reader, "r\"; DROP TABLE t; --").unwrap();
        assert!(
            sql.ends_with(
                r#"    "a /* role */"."b""_skipped" TO "r""; DROP TABLE t; --";
"#
            ),
            "{sql}"
        );
    }

    #[test]
    fn invalid_role_names_are_refused() {
        for role in ["", "a\0", &*"x".repeat(64)] {
            let error = LogName::default().grants(Access::Reader, role).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
        assert!(LogName::default().grants(Access::Reader, &"x".repeat(63)).is_ok());
    }
}
