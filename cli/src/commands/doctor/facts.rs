//! What the nodes are asked.

use std::collections::BTreeMap;

use mainstem::{AppendCondition, Client, ErrorKind, Filter, PostgresEventStore, Predicate, schema::ConditionPlan};
use serde::{Deserialize, de::DeserializeOwned};

use crate::failure::{Failure, Result};

/// What one node reports about itself.
#[derive(Debug, Deserialize)]
pub(crate) struct NodeFacts {
    pub(crate) version: String,
    pub(crate) database: String,
    pub(crate) encoding: String,
    pub(crate) role: String,
    pub(crate) is_superuser: bool,
    pub(crate) sees_statistics: bool,
    settings: BTreeMap<String, String>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) synchronous_standbys: i64,
    /// Transactions since the oldest row of the database that is not frozen.
    pub(crate) transaction_age: i64,
    /// The limits of the role and of the database, if they have one.
    pub(crate) role_connections: Option<i64>,
    pub(crate) database_connections: Option<i64>,
    pub(crate) connections: i64,
    pub(crate) idle_in_transaction_seconds: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Slot {
    pub(crate) name: String,
    pub(crate) is_logical: bool,
    pub(crate) is_active: bool,
    pub(crate) wal_status: Option<String>,
    /// Nothing if it holds none back.
    pub(crate) held_bytes: Option<i64>,
}

/// What the primary reports about the log, and about what this role may do with it.
#[derive(Debug, Deserialize)]
pub(crate) struct LogFacts {
    pub(crate) is_there: bool,
    /// The planner's estimate; negative if it has none.
    pub(crate) rows: i64,
    /// What the table takes on disk, without its indexes.
    pub(crate) bytes: i64,
    pub(crate) may_use_schema: bool,
    pub(crate) may_select: bool,
    pub(crate) may_insert: bool,
    pub(crate) may_execute: bool,
    pub(crate) invalid_indexes: Vec<String>,
    /// How conditions are searched: by what, and the plan.
    #[serde(skip)]
    pub(crate) plans: Vec<(&'static str, ConditionPlan)>,
}

impl NodeFacts {
    pub(crate) async fn ask(client: &Client) -> Result<Self> {
        let row = client.query_one(include_str!("../../../sql/node_facts.sql"), &[]).await?;
        read(row.get(0))
    }

    /// A setting as `pg_settings` has it, in its base unit.
    pub(crate) fn setting(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", |value| value)
    }

    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        self.setting(name).parse().ok()
    }
}

impl LogFacts {
    pub(crate) async fn ask(client: Client, store: &PostgresEventStore) -> Result<Self> {
        let log = store.name();
        let row = client.query_one(include_str!("../../../sql/log_facts.sql"), &[&log.schema(), &log.log()]).await?;
        let mut facts: Self = read(row.get(0))?;
        // The store takes a connection of its own, and the settings may not allow a second one.
        drop(client);
        for (by, filter) in unknown()?.into_iter().filter(|_| facts.may_select) {
            match store.explain_condition(&AppendCondition::fail_if_events_match(filter)).await {
                Ok(plan) => facts.plans.push((by, plan)),
                // The store's own check says what is missing.
                Err(error) if error.kind() == ErrorKind::Schema => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(facts)
    }
}

/// Filters that match nothing in any log, one for each kind of index search.
fn unknown() -> Result<[(&'static str, Filter); 3]> {
    Ok([
        ("type", Filter::matching().any_type_of(["mainstem doctor"]).finish()?),
        ("tag", Filter::matching().all_tags_of(["mainstem doctor"]).finish()?),
        ("payload", Filter::matching().any_predicate_of([Predicate::payload("mainstem", "doctor")]).finish()?),
    ])
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Failure::failed(format!("cannot read the server's answer: {error}")))
}
