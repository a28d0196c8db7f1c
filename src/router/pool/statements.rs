//! The prepared statements of one connection, by their SQL.
//!
//! Neither bb8 nor tokio-postgres caches any: without this, every call with parameters pays a second round trip.

use std::collections::HashMap;

use tokio_postgres::Statement;

/// At most `capacity` statements; the least recently used one goes first, and dropping it closes it on the server.
#[derive(Debug)]
pub(in crate::router) struct StatementCache<S = Statement> {
    entries: HashMap<Box<str>, Entry<S>>,
    capacity: usize,
    clock: u64,
}

#[derive(Debug)]
struct Entry<S> {
    statement: S,
    used: u64,
}

impl<S: Clone> StatementCache<S> {
    pub(in crate::router) fn new(capacity: usize) -> Self {
        Self { entries: HashMap::new(), capacity, clock: 0 }
    }

    pub(in crate::router) fn get(&mut self, sql: &str) -> Option<S> {
        self.clock += 1;
        let entry = self.entries.get_mut(sql)?;
        entry.used = self.clock;
        Some(entry.statement.clone())
    }

    pub(in crate::router) fn insert(&mut self, sql: &str, statement: S) {
        if self.capacity == 0 {
            return;
        }
        if self.entries.len() >= self.capacity && !self.entries.contains_key(sql) {
            // A scan, but only if a new statement meets a full cache, which costs a round trip anyway.
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
            if let Some(oldest) = oldest.map(|(sql, _)| sql.clone()) {
                self.entries.remove(&oldest);
            }
        }
        self.clock += 1;
        self.entries.insert(sql.into(), Entry { statement, used: self.clock });
    }

    pub(in crate::router) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Whether it was there.
    pub(in crate::router) fn remove(&mut self, sql: &str) -> bool {
        self.entries.remove(sql).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_statement_makes_room() {
        let mut cache = StatementCache::new(2);
        cache.insert("a", 1);
        cache.insert("b", 2);
        assert_eq!(cache.get("a"), Some(1));
        cache.insert("c", 3);
        assert_eq!((cache.get("a"), cache.get("b"), cache.get("c")), (Some(1), None, Some(3)));
    }

    #[test]
    fn a_statement_that_is_there_already_is_replaced_and_costs_no_other() {
        let mut cache = StatementCache::new(2);
        cache.insert("a", 1);
        cache.insert("b", 2);
        cache.insert("a", 10);
        assert_eq!((cache.get("a"), cache.get("b")), (Some(10), Some(2)));
        assert!(cache.remove("a") && !cache.remove("a"));
        assert_eq!(cache.get("a"), None);
    }

    #[test]
    fn a_capacity_of_zero_keeps_nothing() {
        let mut cache = StatementCache::new(0);
        cache.insert("a", 1);
        assert_eq!(cache.get("a"), None);
    }
}
