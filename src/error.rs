//! The one error type of the crate.
//!
//! It is opaque on purpose: a message for people, a [kind](ErrorKind) and predicates for programs, the node that it
//! happened on, and the cause in [`source`](std::error::Error::source). The types of the driver and the pool appear in
//! that chain but never in a public variant, so their next major version does not force one of this crate.

mod kind;

use std::{error::Error as StdError, fmt, sync::Arc};

use tokio_postgres::error::{DbError, Severity, SqlState};

pub use self::kind::ErrorKind;
use crate::Mark;

/// A boxed cause.
pub(crate) type Cause = Box<dyn StdError + Send + Sync>;

/// A `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error type of this crate: what went wrong, where, and what to do about it.
///
/// Match on [`kind`](Self::kind) or use a predicate such as [`is_conflict`](Self::is_conflict). The text is for people:
/// it names the node, the limit and the elapsed time where they apply, and may change in any release.
/// [`Display`](fmt::Display) shows the message with the node; `source()` has the cause, and [`report`](Self::report)
/// writes the whole chain. Cloning is cheap: one `Arc`.
///
/// ```
/// # fn handle(error: mainstem::Error) {
/// if error.is_conflict() {
///     // Somebody else was faster: read again, decide again, append again.
/// } else if error.is_outcome_unknown() {
///     // The answer was lost: the same append, with the same event ids, tells whether it was written.
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    node: Option<Arc<str>>,
    conflict: Option<Conflict>,
    version_mismatch: Option<VersionMismatch>,
    last_common: Option<Mark>,
    /// The position of the first event with one of an append's ids.
    reused_at: Option<u64>,
    /// Whether a time limit ran out, although the kind says something else.
    is_out_of_time: bool,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// SQLSTATEs of failures caused by a concurrent transaction: `serialization_failure`, `deadlock_detected`.
const IN_THE_WAY: [&str; 2] = ["40001", "40P01"];

/// The event that broke an append's condition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conflict {
    /// The position of the first event that broke it. For concurrent appends, it may be an event of one of these,
    /// although the log already had a matching one.
    pub position: u64,
    /// The type of that event.
    pub event_type: String,
}

/// The mismatch between a fixed stream's version and the version that an append expected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VersionMismatch {
    /// The id of the stream.
    pub stream: String,
    /// The version that was expected; 0 for a stream without events.
    pub expected: u64,
    /// The version of its last event; 0 if it has none.
    pub actual: u64,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an event of type {:?} at position {}", self.event_type, self.position)
    }
}

/// For implementors of stores: errors of their own, such as a server that does not answer.
///
/// For each reason to refuse a call there is a separate constructor, with the same wording in every store:
/// [`Guard::conflict`](crate::backend::Guard::conflict), [`Guard::diverged`](crate::backend::Guard::diverged),
/// [`StreamAppend::judge`](crate::backend::StreamAppend::judge) and
/// [`AppendRequest::reused_ids`](crate::backend::AppendRequest::reused_ids).
///
/// ```
/// use mainstem::{Error, ErrorKind};
///
/// fn unreadable(cause: std::io::Error) -> Error {
///     Error::new(ErrorKind::Unavailable, "the file of the log cannot be read").with_source(cause)
/// }
/// assert!(unreadable(std::io::ErrorKind::NotFound.into()).is_retryable());
/// ```
impl Error {
    /// Creates an error of the given kind. The message should say what was wrong, where, and what to do.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let (message, node, conflict, version_mismatch) = (message.into(), None, None, None);
        let (last_common, reused_at, is_out_of_time, source) = (None, None, false, None);
        Self(Arc::new(Inner {
            kind,
            message,
            node,
            conflict,
            version_mismatch,
            last_common,
            reused_at,
            is_out_of_time,
            source,
        }))
    }

    /// Wraps an error of the application, to be passed through: for example, what a [`ReadModel`](crate::ReadModel)
    /// could not apply.
    ///
    /// ```
    /// use mainstem::{Error, ErrorKind};
    ///
    /// let error = Error::application("the customer has no address".to_owned());
    /// assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Application, false));
    /// ```
    #[must_use]
    pub fn application(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let error = error.into();
        Self::new(ErrorKind::Application, error.to_string()).with_source(error)
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.inner().source = Some(Arc::from(source.into()));
        self
    }

    /// Adds the name of the node that it happened on.
    #[must_use]
    pub fn with_node(mut self, node: impl Into<Arc<str>>) -> Self {
        self.inner().node = Some(node.into());
        self
    }
}

impl Error {
    pub(crate) fn configuration(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Configuration, message)
    }

    pub(crate) fn invalid_input(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    pub(crate) fn invalid_data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidData, message)
    }

    /// Prefixes the message with the place where the error happened.
    pub(crate) fn within(mut self, place: &str) -> Self {
        let inner = self.inner();
        inner.message = format!("{place}: {}", inner.message);
        self
    }

    pub(crate) fn with_conflict(mut self, conflict: Conflict) -> Self {
        self.inner().conflict = Some(conflict);
        self
    }

    pub(crate) fn with_version_mismatch(mut self, mismatch: VersionMismatch) -> Self {
        self.inner().version_mismatch = Some(mismatch);
        self
    }

    pub(crate) fn with_last_common(mut self, mark: Option<Mark>) -> Self {
        self.inner().last_common = mark;
        self
    }

    pub(crate) fn with_reused_at(mut self, position: u64) -> Self {
        self.inner().reused_at = Some(position);
        self
    }

    /// The position of the first event that has one of an append's ids, if the append was refused for that.
    pub(crate) fn reused_at(&self) -> Option<u64> {
        self.0.reused_at
    }

    /// Marks the error as caused by a time limit: its [kind](Self::kind) says only what may have happened until then.
    pub(crate) fn out_of_time(mut self) -> Self {
        self.inner().is_out_of_time = true;
        self
    }

    pub(crate) fn is_out_of_time(&self) -> bool {
        self.is_timeout() || self.0.is_out_of_time
    }

    /// The same error seen from a higher layer: the details stay, kind and message are new.
    pub(crate) fn reworded(mut self, kind: ErrorKind, message: impl Into<String>) -> Self {
        let inner = self.inner();
        (inner.kind, inner.message) = (kind, message.into());
        self
    }

    /// The message alone, without the node.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// The function in the server that raised the error.
    pub(crate) fn routine(&self) -> Option<&str> {
        self.driver_error()?.as_db_error()?.routine()
    }

    fn inner(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }

    /// Returns the kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the name of the node that it happened on, as [`Router`](crate::Router) names it: `host:port`.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        self.0.node.as_deref()
    }

    /// Returns the event that broke the condition, if this is a conflict with one.
    #[must_use]
    pub fn conflict(&self) -> Option<&Conflict> {
        self.0.conflict.as_ref()
    }

    /// Returns the stream whose version differs from the expected one, if this is such a conflict.
    #[must_use]
    pub fn version_mismatch(&self) -> Option<&VersionMismatch> {
        self.0.version_mismatch.as_ref()
    }

    /// Returns the last place that the log and a consumer's reads are known to have in common, if this is a
    /// [`LogDiverged`](ErrorKind::LogDiverged) of a [`Consumer`](crate::Consumer). They may agree further. `None` if no
    /// such place is known: then only the beginning is certain. For places that you keep yourself, see
    /// [`PostgresEventStore::last_common`](crate::PostgresEventStore::last_common).
    #[must_use]
    pub fn last_common(&self) -> Option<Mark> {
        self.0.last_common
    }

    /// Returns the five characters of PostgreSQL's SQLSTATE, if a server's answer is the cause.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        self.driver_error()?.code().map(SqlState::code)
    }

    /// Returns the name of the constraint that a write violated, if the server's answer names one: of a table, a
    /// domain, or a unique index that belongs to no constraint. Use it to tell the violation of your own rule from
    /// others.
    ///
    /// ```no_run
    /// # async fn run(router: mainstem::Router) -> mainstem::Result<()> {
    /// let client = router.client().await?;
    /// match client.execute("INSERT INTO users (email) VALUES ($1)", &[&"ada@example.org"]).await {
    ///     Err(error) if error.constraint() == Some("users_email_key") => println!("there is such a user"),
    ///     inserted => drop(inserted?),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn constraint(&self) -> Option<&str> {
        self.driver_error()?.as_db_error()?.constraint()
    }

    /// Whether an append lost the race for its consistency boundary. Read again and decide again.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.0.kind == ErrorKind::Conflict
    }

    /// Whether a time limit ran out and this call has written nothing.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.0.kind == ErrorKind::Timeout
    }

    /// Whether a write may or may not have happened.
    ///
    /// Repeat the very same append, with the same event ids, to find out: it is written once, however often it is sent.
    /// Repeating your own SQL may apply it twice.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        self.0.kind == ErrorKind::OutcomeUnknown
    }

    /// Whether nothing was written, and the very same call may succeed if it is repeated a little later.
    ///
    /// True for unreachable nodes, for limits on time and load, and for failures caused by a concurrent transaction
    /// (serialization failures, deadlocks). In the last case, repeat the whole transaction, as
    /// [`BeginTransaction::run`](crate::BeginTransaction::run) does.
    ///
    /// False for a conflict, which needs a new decision, not a retry; and for an unknown outcome, where a repeat might
    /// write twice. Where twice does no harm, as with an append or a read, check
    /// [`is_outcome_unknown`](Self::is_outcome_unknown) as well.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self.0.kind {
            ErrorKind::Overloaded | ErrorKind::ReplicasUnavailable | ErrorKind::Timeout | ErrorKind::Unavailable => {
                true
            }
            ErrorKind::Database => self.sqlstate().is_some_and(|state| IN_THE_WAY.contains(&state)),
            _ => false,
        }
    }

    /// Whether the call may succeed if it is repeated a little later, where doing it twice does no harm.
    pub(crate) fn may_pass(&self) -> bool {
        self.is_retryable() || self.is_outcome_unknown()
    }

    /// Returns the message and every cause below it that adds information, in one line.
    #[must_use]
    pub fn report(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let more = match error.downcast_ref::<DbError>() {
                Some(answer) => answer.message().to_owned(),
                None => error.to_string(),
            };
            // The driver's wrapper around a server's answer says "db error", and most messages quote that answer.
            if more != "db error" && !text.contains(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
            cause = error.source();
        }
        text
    }

    /// The same for the log. A server's error about a statement quotes the statement's values, so only its SQLSTATE is
    /// logged. (Its error when it rejects a connection does not, and is the reason that an operator needs.)
    pub(crate) fn for_log(&self) -> String {
        let said = self.driver_error().and_then(tokio_postgres::Error::as_db_error);
        let is_of_a_statement =
            |said: &DbError| !matches!(said.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
        match said.filter(|said| is_of_a_statement(said)) {
            Some(said) => {
                let node = self.node().map(|node| format!(" (node {node})")).unwrap_or_default();
                format!("{}, SQLSTATE {}{node}", self.kind().as_str(), said.code().code())
            }
            None => self.report(),
        }
    }

    pub(crate) fn driver_error(&self) -> Option<&tokio_postgres::Error> {
        let mut cause: Option<&(dyn StdError + 'static)> = self.source();
        while let Some(error) = cause {
            if let Some(driver) = error.downcast_ref::<tokio_postgres::Error>() {
                return Some(driver);
            }
            cause = error.source();
        }
        None
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match self.node() {
            Some(node) => write!(f, " (node {node})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn StdError + 'static))
    }
}
