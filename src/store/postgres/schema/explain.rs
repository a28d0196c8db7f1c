//! How the server searches for what a condition forbids.

use std::{fmt, future::IntoFuture, sync::Arc, time::Duration};

use crate::{
    AppendCondition,
    error::{Error, Result},
    router::Deadline,
    store::{
        BoxFuture,
        postgres::{PostgresEventStore, failure, wire},
    },
};

/// A request for the plan of a condition: await it, after changing its limit if needed.
///
/// # Errors
///
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a condition that searches for nothing.
/// [`Schema`](crate::ErrorKind::Schema) if there is no such log, [`Configuration`](crate::ErrorKind::Configuration) if
/// this role may not read it, [`Unavailable`](crate::ErrorKind::Unavailable) and [`Timeout`](crate::ErrorKind::Timeout)
/// if the primary does not answer.
///
/// # Cancel safety
///
/// It only reads the plan.
#[derive(Debug)]
#[must_use = "nothing is asked until it is awaited"]
pub struct ExplainCondition<'a> {
    store: &'a PostgresEventStore,
    condition: &'a AppendCondition,
    limit: Option<Duration>,
}

/// The primary's plan for finding what a condition forbids, from [`PostgresEventStore::explain_condition`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionPlan {
    node: Arc<str>,
    text: String,
    reads_whole_log: bool,
}

impl ConditionPlan {
    /// Returns the name of the node that was asked.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Returns the plan as `EXPLAIN` shows it, without costs. The log itself is called `e` in it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether every event would be looked at, instead of the few that an index finds.
    ///
    /// On a short log, a good planner does that. On a long one, each append with such a condition then takes as long as
    /// reading the log: an index is missing, `enable_…` settings forbid it, or there are no statistics (`ANALYZE`).
    #[must_use]
    pub fn reads_whole_log(&self) -> bool {
        self.reads_whole_log
    }
}

/// The text of the plan.
impl fmt::Display for ConditionPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl ExplainCondition<'_> {
    /// Replaces the time limit of this call, including the wait for a connection. Defaults to the router's
    /// [`call_timeout`](crate::RouterBuilder::call_timeout).
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl PostgresEventStore {
    /// Asks the primary how it would search for the events that this condition forbids, without searching for them.
    /// Await the returned value; see [`ExplainCondition`].
    ///
    /// It explains the very statement that checks a condition of an append that reaches far back, planned for the
    /// values of this condition. For a few tags or payload members without an `after`, that statement is planned once
    /// for any values; there is one way to do it then, which is the one shown. (The append procedure looks at events of
    /// the last thousand positions one by one, and looks up tags that nobody has written about in their index.)
    ///
    /// ```no_run
    /// # async fn run(store: mainstem::PostgresEventStore) -> mainstem::Result<()> {
    /// use mainstem::{AppendCondition, Filter};
    ///
    /// let taken = Filter::matching().any_type_of(["NameRegistered"]).and_all_tags_of(["name:ada"]).finish()?;
    /// let plan = store.explain_condition(&AppendCondition::fail_if_events_match(taken)).await?;
    /// assert!(!plan.reads_whole_log(), "{plan}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn explain_condition<'a>(&'a self, condition: &'a AppendCondition) -> ExplainCondition<'a> {
        ExplainCondition { store: self, condition, limit: None }
    }
}

/// The future owns all it needs, so it can be spawned.
impl IntoFuture for ExplainCondition<'_> {
    type Output = Result<ConditionPlan>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let (store, deadline) = (self.store.clone(), self.store.deadline(self.limit));
        let condition = self.condition.clone();
        Box::pin(async move {
            let plan = explain(&store, &condition, deadline).await;
            plan.map_err(|error| failure::classify(error, store.name()))
        })
    }
}

async fn explain(store: &PostgresEventStore, condition: &AppendCondition, deadline: Deadline) -> Result<ConditionPlan> {
    condition.check()?;
    let Some(guard) = condition.guard() else {
        let message = "the condition forbids nothing, so nothing would be looked for; begin it with \
                       AppendCondition::fail_if_events_match";
        return Err(Error::invalid_input(message));
    };
    let mut statement = store.precheck_statement(&guard.filter, guard.after, &[]);
    statement.sql.insert_str(0, "EXPLAIN (COSTS OFF) ");
    let lease = store.router.lease_primary(deadline).await?;
    let rows = statement.ask(&lease, deadline).await?;
    let lines: Result<Vec<&str>, _> = rows.iter().map(|row| row.try_get(0)).collect();
    let lines = lines.map_err(|error| wire::unreadable(error.into()))?;
    // For any event, the first one is enough.
    let reads_whole_log = guard.filter.items().is_some() && goes_through_all(&lines);
    Ok(ConditionPlan { node: Arc::clone(lease.node().name()), text: lines.join("\n"), reads_whole_log })
}

/// Whether the lines of a plan have the log, whose alias is `e`, read from one end to the other.
fn goes_through_all(lines: &[&str]) -> bool {
    lines.iter().enumerate().any(|(number, line)| {
        let step = line.trim_start().trim_start_matches("->").trim_start();
        if !step.ends_with(" e") || !step.contains(" on ") {
            return false;
        }
        // Details of a step stand below it, up to the next one.
        let mut said = lines[number + 1..].iter().take_while(|line| !line.trim_start().starts_with("->"));
        match step.split(" on ").next().unwrap_or_default() {
            scan if scan.contains("Seq Scan") => true,
            scan if scan.contains("Bitmap") => false,
            scan if scan.contains("Index") => !said.any(|line| line.trim_start().starts_with("Index Cond:")),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::goes_through_all;

    #[test]
    fn a_plan_shows_whether_the_whole_log_is_read() {
        let head = "Sort\n  CTE head\n    ->  Limit\n          ->  Index Scan Backward using events_pkey on events";
        for (found, is_whole) in [
            ("->  Seq Scan on events e\n            Filter: (type = 'A'::text)", true),
            ("->  Parallel Seq Scan on \"my log\" e\n            Filter: (type = 'A'::text)", true),
            ("->  Index Scan using events_pkey on events e\n            Filter: (type = 'A'::text)", true),
            ("->  Index Only Scan using events_type on events e\n            Filter: (type ~~ 'A'::text)", true),
            ("->  Index Scan using events_pkey on events e\n            Index Cond: (\"position\" > 7)", false),
            (
                "->  Bitmap Heap Scan on events e\n            Recheck Cond: (tags @> '{a}')\n            \
                 ->  Bitmap Index Scan on events_tags\n                  Index Cond: (tags @> '{a}')",
                false,
            ),
            // Of another step, or of another table.
            (
                "->  Index Scan using events_pkey on events e\n      ->  Index Scan using events_id on events e_1\n            \
                 Index Cond: (id = 'x')",
                true,
            ),
            ("->  Seq Scan on other o", false),
        ] {
            let plan = format!("{head}\n        {found}");
            assert_eq!(goes_through_all(&plan.lines().collect::<Vec<_>>()), is_whole, "{plan}");
        }
    }
}
