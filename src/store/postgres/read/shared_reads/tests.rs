//! What a caller that shares a read gets, and when the read begins: on a clock that the tests control.

use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::{BoxFuture, FutureExt, join_all};
use tokio::{
    sync::Semaphore,
    task::{JoinHandle, yield_now},
    time::sleep,
};

use super::*;
use crate::{Consistency, Token, store::postgres::read::floor::ReadNeeds};

mod limits;
mod sessions;

const LIMIT: Duration = Duration::from_secs(5);

/// A log that only counts, and answers when it may. An answer is the count at the time when the read began.
#[derive(Debug)]
struct Log {
    head: AtomicU64,
    begun: AtomicU64,
    answered: AtomicU64,
    may_answer: Semaphore,
}

type Reads = Arc<SharedReads<Question, u64>>;

/// What a test requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Question {
    what: &'static str,
    level: Consistency,
    floor: Token,
    wants_token: bool,
}

impl Request for Question {
    fn asked(&self) -> ReadNeeds<'_> {
        ReadNeeds { consistency: &self.level, floor: &self.floor, wants_token: self.wants_token }
    }

    fn want_token(&mut self, wants_token: bool) {
        self.wants_token = wants_token;
    }

    fn forget_limit(&mut self) {}
}

/// A caller whose reads take this long. Each read has its number, and an outcome that depends on it.
fn numbered(
    reads: &Reads,
    begun: &Arc<AtomicU64>,
    takes: Duration,
    outcome: impl Fn(u64) -> Result<u64> + Clone + Send + Sync + 'static,
) -> JoinHandle<Result<u64>> {
    let (reads, begun) = (Arc::clone(reads), Arc::clone(begun));
    tokio::spawn(async move {
        let read = move |_, _| {
            let (number, outcome) = (begun.fetch_add(1, Ordering::SeqCst), outcome.clone());
            async move {
                sleep(takes).await;
                outcome(number)
            }
        };
        reads.answer(Question::default(), Deadline::after(LIMIT), read).await
    })
}

impl Log {
    fn new() -> Arc<Self> {
        let (head, begun, answered) = (AtomicU64::new(1), AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { head, begun, answered, may_answer: Semaphore::new(0) })
    }

    fn append(&self) {
        self.head.fetch_add(1, Ordering::SeqCst);
    }

    fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    fn answer(&self, reads: usize) {
        self.may_answer.add_permits(reads);
    }

    async fn read(self: Arc<Self>, deadline: Deadline) -> Result<u64> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let head = self.head.load(Ordering::SeqCst);
        let permit = timeout_at(deadline.at(), self.may_answer.acquire()).await;
        permit.map_err(|_| Error::new(ErrorKind::Timeout, "the log's own limit"))?.unwrap().forget();
        self.answered.fetch_add(1, Ordering::SeqCst);
        Ok(head)
    }
}

fn ask(reads: &Reads, log: &Arc<Log>, limit: Duration) -> BoxFuture<'static, Result<u64>> {
    ask_for("", reads, log, limit)
}

fn ask_for(what: &'static str, reads: &Reads, log: &Arc<Log>, limit: Duration) -> BoxFuture<'static, Result<u64>> {
    let (reads, log) = (Arc::clone(reads), Arc::clone(log));
    Box::pin(async move {
        let read = move |_, deadline| Arc::clone(&log).read(deadline);
        reads.answer(Question { what, ..Question::default() }, Deadline::after(limit), read).await
    })
}

fn spawn(reads: &Reads, log: &Arc<Log>) -> JoinHandle<Result<u64>> {
    tokio::spawn(ask(reads, log, LIMIT))
}

/// Lets all others proceed as far as they can without time passing.
async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

fn is_forgotten(reads: &Reads) -> bool {
    reads.lines().is_empty()
}

#[tokio::test(start_paused = true)]
async fn callers_during_a_read_share_the_next_one() {
    let (reads, log) = (SharedReads::new(true), Log::new());
    let first = spawn(&reads, &log);
    settle().await;
    log.append();
    let others: Vec<_> = (0..31).map(|_| spawn(&reads, &log)).collect();
    settle().await;
    assert_eq!(log.begun(), 1, "they wait for the end of the first");
    log.append();
    log.answer(2);
    assert_eq!(first.await.unwrap().unwrap(), 1);
    for other in join_all(others).await {
        assert_eq!(other.unwrap().unwrap(), 3, "it began after the second append, of which the first knew nothing");
    }
    assert_eq!((log.begun(), log.answered()), (2, 2));
    assert!(is_forgotten(&reads));
}

#[tokio::test(start_paused = true)]
async fn callers_after_the_shared_read_has_begun_wait_for_the_next_one() {
    let (reads, log) = (SharedReads::new(true), Log::new());
    let first = spawn(&reads, &log);
    settle().await;
    let second = spawn(&reads, &log);
    settle().await;
    log.answer(1);
    settle().await;
    assert_eq!(log.begun(), 2);
    log.append();
    let third = spawn(&reads, &log);
    settle().await;
    assert_eq!(log.begun(), 2);
    log.answer(2);
    let heads = (first.await.unwrap().unwrap(), second.await.unwrap().unwrap(), third.await.unwrap().unwrap());
    assert_eq!(heads, (1, 1, 2));
    assert!(is_forgotten(&reads));
}

#[tokio::test(start_paused = true)]
async fn only_what_is_alike_is_shared_and_nothing_where_it_is_turned_off() {
    let (reads, log) = (SharedReads::new(true), Log::new());
    let asked: Vec<_> =
        ["a", "b", "c"].into_iter().map(|what| tokio::spawn(ask_for(what, &reads, &log, LIMIT))).collect();
    settle().await;
    assert_eq!(log.begun(), 3);
    let off = SharedReads::new(false);
    let alone: Vec<_> = (0..5).map(|_| spawn(&off, &log)).collect();
    settle().await;
    assert_eq!(log.begun(), 8);
    log.answer(8);
    assert!(join_all(asked.into_iter().chain(alone)).await.into_iter().all(|answer| answer.unwrap().is_ok()));
    assert!(is_forgotten(&reads) && is_forgotten(&off));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_cancels_no_read_of_others() {
    let (reads, log) = (SharedReads::new(true), Log::new());
    let first = spawn(&reads, &log);
    settle().await;
    let others: Vec<_> = (0..3).map(|_| spawn(&reads, &log)).collect();
    settle().await;
    first.abort();
    settle().await;
    assert_eq!(log.begun(), 2, "the first is over, though it has no answer");
    // The caller that started it.
    others[0].abort();
    settle().await;
    log.answer(1);
    let answers = join_all(others).await;
    assert!(answers[0].as_ref().is_err_and(|error| error.is_cancelled()));
    assert!(answers[1..].iter().all(|answer| answer.as_ref().unwrap().as_ref().unwrap() == &1));
    assert_eq!(log.answered(), 1);
    assert!(is_forgotten(&reads));
}

#[tokio::test(start_paused = true)]
async fn a_read_ends_when_the_last_who_waits_for_it_gives_up() {
    let (reads, log) = (SharedReads::new(true), Log::new());
    let first = spawn(&reads, &log);
    settle().await;
    let others: Vec<_> = (0..3).map(|_| spawn(&reads, &log)).collect();
    settle().await;
    log.answer(1);
    settle().await;
    assert_eq!(log.begun(), 2);
    others.iter().for_each(JoinHandle::abort);
    settle().await;
    log.answer(1);
    settle().await;
    assert_eq!(log.answered(), 1, "the second read was dropped");
    assert!(first.await.unwrap().is_ok() && is_forgotten(&reads));
    log.append();
    assert_eq!(ask(&reads, &log, LIMIT).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_for_those_who_have_given_up_before() {
    let (reads, log) = (SharedReads::new(true), Log::new());
    let first = spawn(&reads, &log);
    settle().await;
    let others: Vec<_> = (0..3).map(|_| spawn(&reads, &log)).collect();
    settle().await;
    others.iter().for_each(JoinHandle::abort);
    settle().await;
    log.answer(1);
    assert!(first.await.unwrap().is_ok());
    settle().await;
    assert_eq!(log.begun(), 1);
    assert!(is_forgotten(&reads));
}

/// A lone caller would have lost its own read, not that of all others.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_lost_is_not_the_error_of_all() {
    let reads: Reads = SharedReads::new(true);
    let begun = Arc::new(AtomicU64::new(0));
    let ask = |takes: Duration, fails: u64| {
        let lost = || Error::new(ErrorKind::Unavailable, "the connection was lost");
        let outcome = move |read| if (1..=fails).contains(&read) { Err(lost()) } else { Ok(read) };
        numbered(&reads, &begun, takes, outcome)
    };
    for (takes, fails, answer) in [(10, 1, Some(2)), (10, 2, None), (1500, 1, None)] {
        begun.store(0, Ordering::SeqCst);
        let takes = Duration::from_millis(takes);
        let asked = [ask(takes, fails), ask(takes, fails), ask(takes, fails)];
        let answers = join_all(asked).await.into_iter().map(|answer| answer.unwrap().ok());
        assert_eq!(answers.collect::<Vec<_>>(), [Some(0), answer, answer], "{fails} after {takes:?} each");
        assert!(is_forgotten(&reads));
    }
}

/// Whichever caller is dropped, at whatever moment: all others get their answers, none of them is stale, and nothing is
/// left over.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_that_go_at_any_time_leave_nothing_behind() {
    let (reads, log) = (SharedReads::new(true), Log::new());
    log.may_answer.add_permits(1_000_000);
    let callers = (0..64_u64).map(|caller| {
        let (reads, log) = (Arc::clone(&reads), Arc::clone(&log));
        tokio::spawn(async move {
            for n in 0..200 {
                let before = log.head.fetch_add(1, Ordering::SeqCst) + 1;
                let asked = spawn(&reads, &log);
                if (caller + n) % 3 == 0 {
                    (0..(caller * 7 + n) % 5).for_each(|_| std::hint::spin_loop());
                    if n % 2 == 0 {
                        yield_now().await;
                    }
                    asked.abort();
                    if let Err(gone) = asked.await {
                        assert!(gone.is_cancelled());
                    }
                } else {
                    let head = asked.await.unwrap().unwrap();
                    assert!(head >= before, "{head} is older than {before}");
                }
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    for caller in join_all(callers).await {
        caller.unwrap();
    }
    let patience = Instant::now() + Duration::from_secs(10);
    while !is_forgotten(&reads) {
        assert!(Instant::now() < patience, "{:?}", reads.lines());
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_is_everybodys_who_shared_the_read_and_of_nobody_after_them() {
    let reads: Reads = SharedReads::new(true);
    let begun = Arc::new(AtomicU64::new(0));
    let fail = |number: u64| {
        let error = move |read| Error::new(ErrorKind::Schema, format!("read {read}, asked by {number}"));
        numbered(&reads, &begun, Duration::from_millis(10), move |read| Err(error(read)))
    };
    let asked = [fail(0), fail(1), fail(2)];
    let errors: Vec<String> =
        join_all(asked).await.into_iter().map(|error| error.unwrap().unwrap_err().to_string()).collect();
    assert!(errors[0].contains("read 0, asked by 0"), "{errors:?}");
    assert!(errors[1..].iter().all(|error| error.contains("read 1, asked by 1")), "{errors:?}");
    assert!(fail(3).await.unwrap().unwrap_err().to_string().contains("read 2, asked by 3"));
    assert!(is_forgotten(&reads));
}

#[test]
fn another_runtime_reads_for_itself() {
    let (reads, log) = (SharedReads::new(true), Log::new());
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (one, other) = (runtime(), runtime());
    let _first = one.spawn(ask(&reads, &log, LIMIT));
    let _second = one.spawn(ask(&reads, &log, LIMIT));
    // From here on nobody drives the first runtime, and its callers wait for each other.
    one.block_on(settle());
    assert_eq!(log.begun(), 1);
    // The first read gets one of the answers, though nobody polls it.
    log.answer(2);
    assert_eq!(other.block_on(ask(&reads, &log, LIMIT)).unwrap(), 1);
    drop(one);
    assert!(is_forgotten(&reads));
}

#[test]
fn a_reader_whose_runtime_ends_leaves_nothing_behind() {
    let (reads, log) = (SharedReads::new(true), Log::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let asked = [(); 3].map(|()| runtime.spawn(ask(&reads, &log, LIMIT)));
    runtime.block_on(settle());
    assert_eq!((log.begun(), reads.lines().len()), (1, 1));
    drop(runtime);
    assert!(is_forgotten(&reads));
    drop(asked);
}

#[tokio::test(start_paused = true)]
async fn callers_read_for_themselves_after_the_shared_read_panics() {
    let reads: Reads = SharedReads::new(true);
    let begun = Arc::new(AtomicU64::new(0));
    let outcome = |read| {
        assert!(read != 1, "as asked for");
        Ok(read)
    };
    let asked = [(); 3].map(|()| numbered(&reads, &begun, Duration::from_millis(10), outcome));
    let mut answers: Vec<u64> = join_all(asked).await.into_iter().map(|answer| answer.unwrap().unwrap()).collect();
    answers.sort_unstable();
    assert_eq!(answers, [0, 2, 3], "the second read has panicked");
    assert!(is_forgotten(&reads));
}
