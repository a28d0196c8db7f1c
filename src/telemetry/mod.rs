//! The names in the library's telemetry: events and spans of [`tracing`](https://docs.rs/tracing), and with the feature
//! `metrics` also metrics (`telemetry::metrics`).
//!
//! Filter by target. Nothing is computed for telemetry that no subscriber wants. It contains no SQL, no parameters, no
//! payloads, no results and no passwords, and no messages of the server, which quote values.
//!
//! | target | what | level | one for each |
//! |---|---|---|---|
//! | [`ROUTE`] | event | debug | decision of the router: which node, why, what was waited for, or why none |
//! | [`CALL`] | event | debug | answer of a server that a call has awaited, and failure to get one |
//! | [`TOPOLOGY`] | event | info to error | change of the cluster, as [`Router::watch`](crate::Router::watch) reports it |
//! | [`STORE`] | span | debug | append, query or other operation of a store |
//! | [`STORE`] | event | debug | read that was answered by a statement shared with others: the details about the nodes are in the span of one of these |
//! | [`DECIDE`] | span | debug | command that is executed, or model that is read |
//! | [`CONSUME`] | span | debug | batch of a read model, and commit of a consumer |
//!
//! Names follow [OpenTelemetry's conventions for databases](https://opentelemetry.io/docs/specs/semconv/database/)
//! where these define one, and begin with `mainstem.` otherwise. Times are in seconds.
//!
//! The router emits events, not spans: they belong to the span of the operation, or to one that the application has
//! opened, and a span for each round trip would make up most of its trace. `db.query.text` is absent on purpose, and so
//! is `db.operation.name` of calls: the router does not read your SQL.
//!
//! With the feature `log`, everything also goes to the crate [`log`](https://docs.rs/log), as long as the program has
//! no `tracing` subscriber.

/// Records metrics: the code inside is compiled only with the feature `metrics`.
macro_rules! with_metrics {
    ($($code:tt)*) => {
        #[cfg(feature = "metrics")]
        {
            $($code)*
        }
    };
}

#[cfg(feature = "metrics")]
pub mod metrics;
mod operation;
mod outcome;
mod stopwatch;

pub(crate) use self::{
    operation::{Done, Operation, OperationSpan, end_span},
    outcome::Outcome,
    stopwatch::Stopwatch,
};

// Targets.

/// The target of routing decisions. Each has [`OUTCOME`], [`LEVEL`], [`ATTEMPTS`] and the waits ([`WAIT_START`],
/// [`WAIT_CONNECTION`], [`WAIT_REPLAY`], [`WAIT_FALLBACK`]); [`REASON`] and the [node](NODE) that was tried last, if
/// any was; [`REPLICAS`] if a read has not gone to an ordinary replica; and [`ERROR_KIND`] if there is an error.
pub const ROUTE: &str = "mainstem::route";

/// The target of calls: a statement, a part of a transaction, the next rows of a stream, and the preparation of a
/// statement on its first use on a connection. (It does not include the router's own queries, such as probes, nor the
/// work of migrations.) Each has [`OUTCOME`], [`EFFECT`], [`DURATION`] and the [node](NODE), and if it has failed
/// [`ERROR_TYPE`], [`ERROR_KIND`] and, from a server, [`STATUS_CODE`].
pub const CALL: &str = "mainstem::call";

/// The target of changes of the cluster: [`PRIMARY`] and [`TIMELINE`], or a [node](NODE) with [`ROLE`] and [`CONDITION`], or
/// [`FALLBACK_SPENT`].
pub const TOPOLOGY: &str = "mainstem::topology";

/// The target of the operations of stores: the spans `append`, `query`, `last`, `count`, `exists`, `query_stream`,
/// `load_stream`, `save_snapshot`, `load_snapshot`, `delete_snapshot` and `project`. Each has [`OPERATION`], and at its
/// end [`OUTCOME`], the serving [node](NODE), its [`ROLE`], [`EVENTS`], and if it has failed [`ERROR_TYPE`] and
/// [`ERROR_KIND`].
pub const STORE: &str = "mainstem::store";

/// The target of decisions about commands: the span `execute` with [`COMMAND`], and at its end [`OUTCOME`],
/// [`DECISIONS`], [`CONFLICTS`], [`RETRIES`] and [`RETRY_DELAY`]; and the span `load_model` with [`MODEL`], and at its
/// end [`OUTCOME`], [`NODE`], [`ROLE`] and [`EVENTS`].
pub const DECIDE: &str = "mainstem::decide";

/// The target of consumers: the spans `handle` of a read model's batch, and `commit`, each with [`CONSUMER`],
/// [`EVENTS`], and at its end [`OUTCOME`].
pub const CONSUME: &str = "mainstem::consume";

// OpenTelemetry's names.

/// Always [`POSTGRESQL`].
pub const SYSTEM: &str = "db.system.name";

/// The value of [`SYSTEM`].
pub const POSTGRESQL: &str = "postgresql";

/// The database. Absent for borrowed pools, whose settings are not known.
pub const NAMESPACE: &str = "db.namespace";

/// The node's host, or the directory of its socket, from its URL. Absent for borrowed pools.
pub const SERVER_ADDRESS: &str = "server.address";

/// The node's port.
pub const SERVER_PORT: &str = "server.port";

/// The operation: `append`, `query`, and so on, as the spans of [`STORE`] are named.
pub const OPERATION: &str = "db.operation.name";

/// The name of a pool of connections: that of its [node](NODE).
pub const POOL: &str = "db.client.connection.pool.name";

/// `idle` or `used`.
pub const CONNECTION_STATE: &str = "db.client.connection.state";

/// [`STATUS_ERROR`] for a span that has failed or timed out; the bridge between `tracing` and OpenTelemetry reads it.
pub const STATUS: &str = "otel.status_code";

/// The value of [`STATUS`].
pub const STATUS_ERROR: &str = "ERROR";

/// The server's SQLSTATE, if its answer was an error.
pub const STATUS_CODE: &str = "db.response.status_code";

/// The SQLSTATE, or without one the [kind of the error](ERROR_KIND).
pub const ERROR_TYPE: &str = "error.type";

// Our own.

/// The node's name, as in [`NodeStatus`](crate::NodeStatus).
pub const NODE: &str = "mainstem.node";

/// `primary` or `replica`: the node's role for the call, or its present role.
pub const ROLE: &str = "mainstem.node.role";

/// Whether the node serves, and if not why: the [`NodeCondition`](crate::NodeCondition) in words.
pub const CONDITION: &str = "mainstem.node.condition";

/// The name of the primary.
pub const PRIMARY: &str = "mainstem.primary";

/// The newest timeline ever seen.
pub const TIMELINE: &str = "mainstem.timeline";

/// Whether the primary serves as many reads for replicas as it may.
pub const FALLBACK_SPENT: &str = "mainstem.fallback.spent";

/// `strong`, `eventual`, `at_least` or `bounded`.
pub const LEVEL: &str = "mainstem.consistency";

/// Why the node that was tried last was chosen:
///
/// | value | it is |
/// |---|---|
/// | `primary` | the primary, for a strong call |
/// | `replica` | a replica that qualifies |
/// | `unproven` | a replica that may have replayed as far as the call needs, which its connection proves |
/// | `spill_over` | a replica in another zone, since no near one qualifies and has a free connection |
/// | `full` | a replica whose connections are all taken, as are those of all that qualify |
/// | `older_timeline` | a replica that has not followed the last failover, since none has |
/// | `lagging` | a replica that lags, since the primary may serve no more |
/// | `trial` | a replica that is out of service, to find out whether it still is |
/// | `only_node` | the only node |
/// | `fallback` | the primary, since no replica qualifies |
/// | `last_resort` | a replica that is out of service, since no other node can serve |
pub const REASON: &str = "mainstem.reason";

/// For each replica that does not qualify, the reason: `10.0.0.2:5432: it lags too far behind; …`.
pub const REPLICAS: &str = "mainstem.replicas";

/// How it ended:
///
/// | value | meaning |
/// |---|---|
/// | `succeeded` | a connection was acquired; an answer arrived; a command's decision was written |
/// | `nothing` | the command left nothing to do: what it asks for is already the case |
/// | `refused` | by the library, which has sent nothing (split brain, no replica that qualifies, a write on a replica, too many at once, data that cannot be stored), by a server for lack of the privilege to write, or by the decision about a command |
/// | `conflicted` | others were faster: an append's condition does not hold, a transaction on the server conflicts, or another member owns the batch by now |
/// | `failed` | nodes cannot be reached, a connection was lost, or the server's answer is an error |
/// | `timed_out` | a time limit expired, even if the outcome of a write is unknown |
/// | `cancelled` | the caller dropped the future |
pub const OUTCOME: &str = "mainstem.outcome";

/// The [`ErrorKind`](crate::ErrorKind), in lower case: `outcome_unknown` marks a write that may have happened.
pub const ERROR_KIND: &str = "mainstem.error.kind";

/// What the call may do: `read`, `write`, or `append` to the log.
pub const EFFECT: &str = "mainstem.effect";

/// How many nodes this call has tried for a connection so far, including those lost during the call.
pub const ATTEMPTS: &str = "mainstem.attempts";

/// How long the decision waited, right after the start, until every node had reported its role.
pub const WAIT_START: &str = "mainstem.wait.start";

/// How long it waited for a free or a new connection.
pub const WAIT_CONNECTION: &str = "mainstem.wait.connection";

/// How long it waited for a replica to replay what the read must contain.
pub const WAIT_REPLAY: &str = "mainstem.wait.replay";

/// How long it waited for a place in the budget of the [fallback](crate::RouterBuilder::fallback).
pub const WAIT_FALLBACK: &str = "mainstem.wait.fallback";

/// The time from the call to its answer.
pub const DURATION: &str = "mainstem.duration";

/// How many events were read or written.
pub const EVENTS: &str = "mainstem.events";

/// The name of the log.
pub const LOG: &str = "mainstem.log";

/// The name of the command's type, without its path.
pub const COMMAND: &str = "mainstem.command";

/// The name of the model's type, without its path.
pub const MODEL: &str = "mainstem.model";

/// The name of the consumer, which is also that of the read model.
pub const CONSUMER: &str = "mainstem.consumer";

/// How often a decision was made about the command.
pub const DECISIONS: &str = "mainstem.decisions";

/// How often an event came in between.
pub const CONFLICTS: &str = "mainstem.conflicts";

/// How often it was retried, for whatever reason.
pub const RETRIES: &str = "mainstem.retries";

/// The total time waited before these retries.
pub const RETRY_DELAY: &str = "mainstem.retry.delay";
