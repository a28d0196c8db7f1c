//! First reads from a replica: safe, and off the primary.

use mainstem::{
    Appended, Command, CommandError, CommandExecutor, CommandOutcome, CommandRecord, Consistency, Decision, Error,
    EventStore, Filter, MemoryEventStore, NewEvent, PostgresEventStore, Result, Role, Router,
    backend::{Answer, AppendRequest, BoxFuture, QueryRequest},
    testing::LocalCluster,
};

use super::{
    domain::{Course, EnrolmentError, append, course, defined, enrol, enrolled, log},
    spy::{Call, Spy},
};
use crate::support::started;

fn levels(spy: &Spy) -> Vec<Consistency> {
    let levels = spy.calls().into_iter().filter_map(|call| match call {
        Call::Query(level) => Some(level),
        _ => None,
    });
    levels.collect()
}

#[tokio::test]
async fn only_the_first_read_is_eventual() {
    use Consistency::{Eventual, Strong};
    let spy = Spy::default();
    append(&spy, [defined(1, 2)]).await;
    let executor = CommandExecutor::new(spy.clone()).first_read(Eventual);
    executor.execute(&enrol(1, 7)).await.unwrap();
    assert_eq!(levels(&spy), [Eventual]);
    spy.be_faster([defined(1, 3)]);
    assert_eq!(executor.execute(&enrol(1, 8)).await.unwrap().attempts.confirmations, 0);
    assert_eq!(levels(&spy), [Eventual, Strong]);
    // What writes nothing is decided again.
    let executed = executor.execute(&enrol(1, 8)).await.unwrap();
    assert_eq!(
        (executed.outcome, executed.attempts.confirmations, executed.attempts.decisions),
        (CommandOutcome::Nothing, 1, 2)
    );
    assert_eq!(levels(&spy), [Eventual, Strong]);
}

/// On a replica that shows the past for as long as the test wants.
#[tokio::test]
async fn a_decision_on_a_replicas_past_is_never_what_counts() {
    let cluster = started(LocalCluster::builder().replicas(1)).await;
    let router = Router::builder().primary(cluster.primary().url()).replica(cluster.replica(0).url());
    let router = router.require_replicas(true).connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    append(&store, [defined(1, 2), defined(2, 1), enrolled(2, 1)]).await;
    cluster.wait_until_caught_up().await.unwrap();
    let executor = CommandExecutor::new(store.clone()).first_read(Consistency::Eventual);

    let any = Filter::any_event();
    assert_eq!(store.query(&any).consistency(Consistency::Eventual).await.unwrap().role(), Role::Replica);
    assert_eq!(
        executor.execute(&enrol(1, 5)).await.unwrap().attempts.decisions,
        1,
        "a replica's present is good enough"
    );

    cluster.wait_until_caught_up().await.unwrap();
    cluster.replica(0).pause_replay().await.unwrap();
    // What the replica does not show: one place more in the full course, the other course full.
    append(&store, [defined(2, 2), enrolled(1, 6)]).await;
    let stale = store.query(&any).consistency(Consistency::Eventual).await.unwrap();
    assert_eq!((stale.role(), stale.len()), (Role::Replica, 4), "the replica shows the past");
    let error = executor.execute(&enrol(1, 7)).await.unwrap_err();
    assert_eq!(error.refusal(), Some(&EnrolmentError::Full));
    assert_eq!((error.attempts().decisions, error.attempts().conflicts), (2, 1));
    let executed = executor.execute(&enrol(2, 7)).await.unwrap();
    assert_eq!((executed.outcome, executed.attempts.confirmations), (CommandOutcome::Decided, 1));
    cluster.replica(0).resume_replay().await.unwrap();
    assert_eq!(log(&store).await.len(), 7);
}

/// A log whose replica is on another branch of the history.
#[derive(Clone, Debug, Default)]
struct Branched {
    primary: MemoryEventStore,
    replica: MemoryEventStore,
}

impl EventStore for Branched {
    fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>> {
        self.primary.run_append(request)
    }

    fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>> {
        match request.consistency {
            Consistency::Eventual => self.replica.run_query(request),
            _ => self.primary.run_query(request),
        }
    }
}

/// Or it would never be carried out, however often it is repeated.
#[tokio::test]
async fn a_record_that_only_a_replica_shows_does_not_count() {
    let log = Branched::default();
    let (command, record) = (enrol(1, 7), || CommandRecord::new("lost", "Enrol"));
    for store in [&log.primary, &log.replica] {
        append(store, [defined(1, 2)]).await;
    }
    // Before the failover: the replica has it, and the new primary has not.
    let before = CommandExecutor::new(log.replica.clone());
    before.execute(&command).recorded(record()).await.unwrap();
    let executor = CommandExecutor::new(log.clone()).first_read(Consistency::Eventual);
    for round in 0..2 {
        let executed = executor.execute(&command).recorded(record()).await.unwrap();
        assert_eq!((executed.is_repeated, executed.attempts.confirmations), (round > 0, 1));
        assert_eq!(self::log(&log.primary).await.len(), 3);
    }
}

/// Fails where a rule is not met, and not by a refusal.
struct Define {
    fails_at: fn(&Course) -> Result<()>,
    event: NewEvent,
}

impl Command for Define {
    type Model = Course;
    type Refusal = ();

    fn model(&self) -> Self::Model {
        course(1)
    }

    fn decide(&self, model: &Self::Model) -> Result<Decision<()>> {
        (self.fails_at)(model)?;
        // What would be made of a replica's past: the id of an event that the primary has already.
        Ok(Decision::append([if model.capacity == 0 { self.event.clone() } else { enrolled(1, 7) }]))
    }
}

/// A replica does not show yet what the command needs.
#[tokio::test]
async fn an_error_that_rests_on_a_replicas_past_is_not_final() {
    let log = Branched::default();
    let first = defined(1, 2);
    append(&log.primary, [first.clone()]).await;
    let other = enrolled(1, 5).with_id(first.id());
    let none = |_: &Course| Ok(());
    let missing = |course: &Course| match course.capacity {
        0 => Err(Error::application("no such course")),
        _ => Ok(()),
    };
    let executor = CommandExecutor::new(log.clone()).first_read(Consistency::Eventual);
    for (fails_at, events) in [(missing as fn(&_) -> _, 2), (none, 3)] {
        let executed = executor.execute(&Define { fails_at, event: other.clone() }).await.unwrap();
        assert_eq!((executed.attempts.confirmations, executed.attempts.decisions), (1, 2));
        assert_eq!(self::log(&log.primary).await.len(), events);
    }
    // On the primary's present it is.
    let always = |_: &Course| Err(Error::application("never"));
    let error = executor.execute(&Define { fails_at: always, event: other }).await.unwrap_err();
    assert_eq!((error.attempts().confirmations, error.attempts().decisions), (1, 2));
    assert!(matches!(error, CommandError::GaveUp { .. }), "{error:?}");
}
