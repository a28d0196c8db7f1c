//! A unique name for each node.

use std::sync::Arc;

use crate::error::{Error, Result};

/// A node's address in its settings.
#[derive(Clone, Debug)]
pub(in crate::router) struct Address {
    /// `host:port`, or a substitute for it.
    pub(in crate::router) host: Arc<str>,
    pub(in crate::router) database: Option<String>,
}

/// The nodes' names: `host:port`, and if two of them are behind one address, as behind a PgBouncer,
/// `host:port/database`. Errors and statuses identify a node by its name, so no two nodes have the same.
pub(in crate::router) fn of(addresses: &[Address]) -> Result<Vec<Arc<str>>> {
    let is_alone = |name: &str| addresses.iter().filter(|address| *address.host == *name).count() < 2;
    let name = |address: &Address| -> Arc<str> {
        match &address.database {
            Some(database) if !is_alone(&address.host) => format!("{}/{database}", address.host).into(),
            _ => Arc::clone(&address.host),
        }
    };
    let names: Vec<_> = addresses.iter().map(name).collect();
    let is_repeated = |(index, name): (usize, &Arc<str>)| names[..index].contains(name);
    match names.iter().enumerate().find(|&node| is_repeated(node)) {
        Some((_, name)) => {
            Err(Error::configuration("two nodes have the same address: list each once").with_node(&**name))
        }
        None => Ok(names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(addresses: &[(&str, Option<&str>)]) -> Result<Vec<String>> {
        let address = |&(host, database): &(&str, Option<&str>)| Address {
            host: host.into(),
            database: database.map(str::to_owned),
        };
        let addresses: Vec<_> = addresses.iter().map(address).collect();
        Ok(of(&addresses)?.iter().map(|name| name.to_string()).collect())
    }

    #[test]
    fn the_database_is_named_where_the_address_does_not_tell() {
        let names = named(&[("a:1", Some("shop")), ("b:1", Some("shop")), ("b:1", Some("shop_ro"))]).unwrap();
        assert_eq!(names, ["a:1", "b:1/shop", "b:1/shop_ro"]);
    }

    #[test]
    fn a_node_that_is_listed_twice_is_refused_by_name() {
        for database in [None, Some("shop")] {
            let error = named(&[("a:1", Some("x")), ("b:1", database), ("b:1", database)]).unwrap_err();
            let is_named = error.node().is_some_and(|node| node.starts_with("b:1"));
            assert!(error.kind() == crate::ErrorKind::Configuration && is_named, "{}", error.report());
        }
    }
}
