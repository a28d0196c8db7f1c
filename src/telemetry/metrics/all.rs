//! The list of metrics.

use super::{
    MetricDescription,
    MetricKind::{Counter, Gauge, Histogram},
};
use crate::telemetry::{
    COMMAND, CONDITION, CONNECTION_STATE, CONSUMER, EFFECT, ERROR_KIND, ERROR_TYPE, LEVEL, LOG, MODEL, NAMESPACE, NODE,
    OPERATION, OUTCOME, POOL, REASON, ROLE, SERVER_ADDRESS, SERVER_PORT, STATUS_CODE, SYSTEM,
};

/// The label of [`ROUTE_WAIT`]: `start`, `connection`, `replay` or `fallback`.
pub const WAIT: &str = "mainstem.wait";

/// The label of [`NODE_EJECTIONS`]: `failing`, `silent`, `unreachable` or `refusing`.
pub const CAUSE: &str = "mainstem.cause";

/// The label of metrics that belong to a router, not to a node: the name of the first node in its settings.
pub const ROUTER: &str = "mainstem.router";

/// The label of [`PRIMARY_STATE`]: `known`, `split_brain`, `fenced` or `unknown`.
pub const PRIMARY_IS: &str = "mainstem.primary.is";

/// The label of [`STORE_CONFLICTS`]: `condition`, or `stream_version`.
pub const CONFLICT: &str = "mainstem.conflict";

/// The label of [`COMMAND_GAVE_UP`]: `attempts`, or `time`.
pub const LIMIT: &str = "mainstem.limit";

/// The label of [`SNAPSHOT_PROJECTIONS`]: `used`, `not_found` or `unusable`.
pub const LOADED: &str = "mainstem.snapshot.loaded";

/// The label of [`SNAPSHOT_PROJECTIONS`]: `stored`, `outdated`, `not_due` or `failed`.
pub const SAVED: &str = "mainstem.snapshot.saved";

macro_rules! list {
    ($($name:ident = $text:literal, $kind:ident, $unit:literal, [$($label:expr),*], $description:literal;)+) => {
        $(
            #[doc = concat!("`", $text, "`, in `", $unit, "`: ", $description)]
            pub const $name: MetricDescription = MetricDescription::new($text, $kind, $unit, &[$($label),*], $description);
        )+

        /// All metrics.
        pub const ALL: &[MetricDescription] = &[$($name),+];
    };
}

list! {
    OPERATION_DURATION = "db.client.operation.duration", Histogram, "s",
        [SYSTEM, NAMESPACE, SERVER_ADDRESS, SERVER_PORT, NODE, ROLE, EFFECT, OUTCOME, ERROR_TYPE, STATUS_CODE],
        "calls to servers, each until its answer";
    CONNECTION_COUNT = "db.client.connection.count", Gauge, "{connection}", [POOL, CONNECTION_STATE],
        "open connections of a node's pool";
    CONNECTION_MAX = "db.client.connection.max", Gauge, "{connection}", [POOL],
        "connections that the pool may have";
    CONNECTION_PENDING = "db.client.connection.pending_requests", Gauge, "{request}", [POOL],
        "calls that wait for a connection of the pool";
    CONNECTION_TIMEOUTS = "db.client.connection.timeouts", Counter, "{timeout}", [POOL],
        "calls that got no connection of the pool in time";
    CONNECTION_CREATE_TIME = "db.client.connection.create_time", Histogram, "s", [POOL, OUTCOME],
        "opening of connections, log-in included";
    CONNECTION_WAIT_TIME = "db.client.connection.wait_time", Histogram, "s", [POOL, OUTCOME],
        "waits of calls for a connection of the pool";
    CONNECTION_USE_TIME = "db.client.connection.use_time", Histogram, "s", [POOL],
        "use of a connection from its being handed out to its coming back";
    ROUTE_DECISIONS = "mainstem.route.decisions", Counter, "{decision}", [OUTCOME, LEVEL, REASON, ERROR_KIND],
        "decisions which node serves a call";
    ROUTE_WAIT = "mainstem.route.wait.duration", Histogram, "s", [WAIT, LEVEL],
        "what decisions have waited for, if for anything";
    NODE_CONDITION = "mainstem.node.condition", Gauge, "1", [NODE, CONDITION],
        "1 for the condition that the node is in, 0 for the others";
    NODE_ROLE = "mainstem.node.role", Gauge, "1", [NODE, ROLE],
        "1 for the role that the node plays, 0 for the other";
    NODE_LAG = "mainstem.node.lag", Gauge, "s", [NODE],
        "how far the replica was behind the primary when that was asked last";
    NODE_LAG_BYTES = "mainstem.node.lag.bytes", Gauge, "By", [NODE],
        "the same in bytes of the write-ahead log";
    NODE_STALENESS = "mainstem.node.staleness", Gauge, "s", [NODE],
        "everything that was acknowledged longer ago than this is on the replica";
    NODE_LATENCY = "mainstem.node.latency", Gauge, "s", [NODE],
        "smoothed time from a call to its answer, which the choice of a node goes by";
    NODE_IN_FLIGHT = "mainstem.node.in_flight", Gauge, "{call}", [NODE],
        "calls that wait for a connection of the node or use one";
    NODE_EJECTIONS = "mainstem.node.ejections", Counter, "{ejection}", [NODE, CAUSE],
        "times that the node was taken out of service";
    PRIMARY_STATE = "mainstem.primary.state", Gauge, "1", [ROUTER, PRIMARY_IS],
        "1 for what is known of the primary, 0 for the rest";
    PRIMARY_CHANGES = "mainstem.primary.changes", Counter, "{change}", [ROUTER],
        "times that another node has become the primary";
    TIMELINE_NUMBER = "mainstem.timeline", Gauge, "1", [ROUTER],
        "the newest timeline that was seen";
    FALLBACK_IN_FLIGHT = "mainstem.fallback.in_flight", Gauge, "{call}", [ROUTER],
        "reads that the primary serves for replicas at this moment";
    FALLBACK_LIMIT = "mainstem.fallback.limit", Gauge, "{call}", [ROUTER],
        "the most of them at once";
    FALLBACK_SPENT_NOW = "mainstem.fallback.spent", Gauge, "1", [ROUTER],
        "1 while the primary serves as many as it may and others have to wait";
    FALLBACK_EXHAUSTIONS = "mainstem.fallback.exhaustions", Counter, "{exhaustion}", [ROUTER],
        "times that this has begun";
    STORE_DURATION = "mainstem.store.operation.duration", Histogram, "s", [OPERATION, OUTCOME, ROLE, ERROR_TYPE],
        "operations of a store, with all their calls and waits";
    STORE_EVENTS = "mainstem.store.events", Counter, "{event}", [OPERATION, ROLE],
        "events that these have read or written";
    STORE_CONFLICTS = "mainstem.store.conflicts", Counter, "{conflict}", [CONFLICT],
        "appends that were refused since something had come in between";
    STORE_SHARED_READS = "mainstem.store.shared_reads", Counter, "{read}", [],
        "reads that were answered by the statement of another one";
    APPEND_BATCH_APPENDS = "mainstem.append.batch.appends", Histogram, "{append}", [LOG],
        "appends that were sent together";
    APPEND_BATCH_EVENTS = "mainstem.append.batch.events", Histogram, "{event}", [LOG],
        "events that were sent together";
    APPEND_QUEUE = "mainstem.append.queue.duration", Histogram, "s", [LOG],
        "time from the call of an append until it is sent";
    SNAPSHOT_PROJECTIONS = "mainstem.snapshot.projections", Counter, "{projection}", [LOADED, SAVED],
        "states that were computed from a snapshot, or without one";
    COMMAND_DURATION = "mainstem.command.duration", Histogram, "s", [COMMAND, OUTCOME, ERROR_TYPE],
        "commands, with all attempts and the waits between them";
    COMMAND_CONFLICTS = "mainstem.command.conflicts", Counter, "{conflict}", [COMMAND],
        "decisions that came to nothing since an event had come in between";
    COMMAND_RETRIES = "mainstem.command.retries", Counter, "{retry}", [COMMAND],
        "attempts after the first";
    COMMAND_RETRY_DELAY = "mainstem.command.retry.delay", Histogram, "s", [COMMAND],
        "waits between attempts, all of a command together, if there were any";
    COMMAND_GAVE_UP = "mainstem.command.gave_up", Counter, "{command}", [COMMAND, LIMIT],
        "commands that had no attempt or no time left";
    COMMAND_REPEATED = "mainstem.command.repeated", Counter, "{command}", [COMMAND],
        "commands that had been carried out before, by their id";
    MODEL_DURATION = "mainstem.model.duration", Histogram, "s", [MODEL, OUTCOME, ROLE, ERROR_TYPE],
        "reads of decision models, those of commands included";
    MODEL_EVENTS = "mainstem.model.events", Counter, "{event}", [MODEL],
        "events that were applied to models";
    CONSUMER_LAG = "mainstem.consumer.lag", Gauge, "{event}", [CONSUMER],
        "events of the log after the last batch that was handed out";
    CONSUMER_DURATION = "mainstem.consumer.batch.duration", Histogram, "s", [CONSUMER, OUTCOME],
        "batches, from being handed out to their commit";
    CONSUMER_EVENTS = "mainstem.consumer.events", Counter, "{event}", [CONSUMER],
        "events of batches that were committed";
    CONSUMER_SKIPPED = "mainstem.consumer.skipped", Counter, "{event}", [CONSUMER],
        "events of these that were passed over";
    CONSUMER_RESTARTS = "mainstem.consumer.restarts", Counter, "{restart}", [CONSUMER],
        "times that a consumer has gone back to its checkpoint";
}
