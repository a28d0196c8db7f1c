//! How many commands and reads of models may be in flight, and that every path gives its permit back.

use std::{
    future::{Future, IntoFuture},
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt;
use mainstem::{
    Appended, Command, CommandExecutor, Decision, Error, ErrorKind, Event, EventStore, Filter, MemoryEventStore,
    Projection, Result,
    backend::{Answer, AppendRequest, BoxFuture, QueryRequest},
    testing::FailingEventStore,
};
use tokio::sync::Notify;

use super::domain::{append, course, defined, enrol, reason};

/// A store whose reads wait until they are let go.
#[derive(Clone, Debug, Default)]
struct Waiting {
    store: MemoryEventStore,
    go: Arc<Notify>,
}

impl EventStore for Waiting {
    fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>> {
        self.store.run_append(request)
    }

    fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>> {
        let Self { store, go } = self.clone();
        Box::pin(async move {
            go.notified().await;
            store.run_query(request).await
        })
    }
}

/// A model and a command that panic where they are told to.
struct Panics {
    in_apply: bool,
}

impl Projection for Panics {
    fn filter(&self) -> Result<Filter> {
        Ok(Filter::any_event())
    }

    fn apply(&mut self, _event: &Event) -> Result<()> {
        if self.in_apply { panic!("in apply") } else { Ok(()) }
    }
}

impl Command for Panics {
    type Model = Self;
    type Refusal = ();

    fn model(&self) -> Self {
        Self { in_apply: self.in_apply }
    }

    fn decide(&self, _model: &Self) -> Result<Decision<()>> {
        panic!("in decide")
    }
}

fn kind<T>(told: std::result::Result<T, mainstem::CommandError<super::domain::EnrolmentError>>) -> Option<ErrorKind> {
    told.err().and_then(|error| error.error().map(Error::kind))
}

#[tokio::test]
async fn beyond_the_limit_a_command_and_a_projection_fail_at_once() {
    let store = Waiting::default();
    let executor = CommandExecutor::new(store).max_concurrent_commands(2).max_concurrent_reads(1);
    let command = enrol(1, 7);
    let (mut one, mut two) = (executor.execute(&command).into_future(), executor.execute(&command).into_future());
    assert!(is_pending(&mut one) && is_pending(&mut two));
    // At once: nothing is let go, so who waits would wait for ever.
    let clone = executor.clone();
    let error = clone.execute(&command).into_future().now_or_never().expect("an answer at once").unwrap_err();
    assert!(
        reason(&error).contains("2 commands are in flight, as many as `max_concurrent_commands` allows"),
        "{error}"
    );
    assert_eq!(kind::<()>(Err(error)), Some(ErrorKind::Overloaded));
    // The other limit is another one.
    let mut reading = executor.read(course(1)).into_future();
    assert!(is_pending(&mut reading));
    let error = executor.read(course(1)).into_future().now_or_never().expect("an answer at once").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert!(error.is_retryable() && error.to_string().contains("1 reads of models"), "{error}");
}

/// Polls it once.
fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
    future.now_or_never().is_none()
}

/// Whether there is a place, after a future was polled and dropped, ended or panicked.
fn is_free(executor: &CommandExecutor) -> bool {
    let command = enrol(1, 7);
    let mut one = pin!(executor.execute(&command).into_future());
    let mut read = pin!(executor.read(course(1)).into_future());
    is_pending(&mut one) && is_pending(&mut read)
}

#[tokio::test]
async fn a_place_is_given_back_on_every_path() {
    let store = Waiting::default();
    append(&store.store, [defined(1, 0)]).await;
    let executor = CommandExecutor::new(store.clone()).max_concurrent_commands(1).max_concurrent_reads(1);
    assert!(is_free(&executor), "at the beginning");
    assert!(is_free(&executor), "after a drop");
    let go = async |times: usize| {
        for _ in 0..times {
            store.go.notify_one();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let command = enrol(1, 7);
    let (refused, ()) = tokio::join!(executor.execute(&command).into_future(), go(1));
    assert!(refused.unwrap_err().refusal().is_some());
    assert!(is_free(&executor), "after a refusal");
    let (read, ()) = tokio::join!(executor.read(course(1)).into_future(), go(1));
    assert_eq!(read.unwrap().applied(), 1);
    assert!(is_free(&executor), "after a read");
    for in_apply in [false, true] {
        let (panics, model) = (Panics { in_apply }, Panics { in_apply: true });
        let caught = AssertUnwindSafe(executor.execute(&panics).into_future()).catch_unwind();
        let (told, ()) = tokio::join!(caught, go(1));
        assert!(told.is_err());
        let (told, ()) = tokio::join!(AssertUnwindSafe(executor.read(model).into_future()).catch_unwind(), go(1));
        assert!(told.is_err());
        assert!(is_free(&executor), "after a panic");
    }
}

#[tokio::test]
async fn a_place_is_given_back_after_an_error() {
    let store = FailingEventStore::new(MemoryEventStore::new());
    let executor = CommandExecutor::new(store.clone()).max_concurrent_commands(1).max_concurrent_reads(1);
    for _ in 0..3 {
        store.fail_next_read(Error::new(ErrorKind::Schema, "no table"));
        assert_eq!(kind(executor.execute(&enrol(1, 7)).await), Some(ErrorKind::Schema));
        store.fail_next_read(Error::new(ErrorKind::Schema, "no table"));
        assert_eq!(executor.read(course(1)).await.unwrap_err().kind(), ErrorKind::Schema);
        assert_eq!(
            executor.read(Vec::<super::domain::Course>::new()).await.unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    }
}

#[tokio::test]
async fn commands_that_are_never_polled_take_no_permit() {
    let executor = CommandExecutor::new(MemoryEventStore::new()).max_concurrent_commands(1);
    let command = enrol(1, 7);
    let idle = executor.execute(&command);
    let unpolled: Box<dyn Future<Output = _> + Send> = Box::new(executor.execute(&command).into_future());
    assert!(executor.execute(&command).await.unwrap_err().refusal().is_some());
    drop((idle, unpolled));
}
