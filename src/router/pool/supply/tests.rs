use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use futures_util::future::poll_immediate;
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::*;
use crate::router::core::mix;

const HANG: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_millis(20);

/// How connecting to nowhere turns out.
#[derive(Debug, Default)]
struct Nowhere {
    is_silent: AtomicBool,
    panics: AtomicBool,
    /// One in this many connects fails, and one in this many connections ends.
    fails_one_in: u32,
    connects: AtomicU32,
    returns: AtomicU32,
    /// Connections that are open or being opened, and the most there ever were.
    there: AtomicU32,
    most: AtomicU32,
}

#[derive(Clone, Debug, Default)]
struct ToNowhere(Arc<Nowhere>);

#[derive(Debug)]
struct One {
    nowhere: Arc<Nowhere>,
    is_over: bool,
}

impl Nowhere {
    /// Whether the next one of those counted there should fail.
    fn is_bad(&self, count: &AtomicU32) -> bool {
        let random = mix(count.fetch_add(1, Ordering::SeqCst).into());
        self.fails_one_in > 0 && random.is_multiple_of(self.fails_one_in.into())
    }
}

impl One {
    fn ends(&mut self) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.nowhere.there.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.ends();
    }
}

impl ManageConnection for ToNowhere {
    type Connection = One;
    type Error = NotConnected;

    async fn connect(&self) -> Result<One, NotConnected> {
        let nowhere = &self.0;
        nowhere.most.fetch_max(nowhere.there.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let one = One { nowhere: Arc::clone(nowhere), is_over: false };
        let is_bad = nowhere.is_bad(&nowhere.connects);
        yield_now().await;
        assert!(!nowhere.panics.load(Ordering::SeqCst), "on purpose");
        while nowhere.is_silent.load(Ordering::SeqCst) {
            sleep(SOON).await;
        }
        if is_bad {
            return Err(NotConnected::new(ConnectFailure::NoAnswer, "on purpose"));
        }
        Ok(one)
    }

    async fn is_valid(&self, _: &mut One) -> Result<(), NotConnected> {
        Ok(())
    }

    fn has_broken(&self, one: &mut One) -> bool {
        let has_broken = self.0.is_bad(&self.0.returns);
        if has_broken {
            // bb8 frees its place before it drops it.
            one.ends();
        }
        has_broken
    }
}

fn supply(nowhere: &ToNowhere, size: u32) -> Arc<Supply<ToNowhere>> {
    let builder = bb8::Pool::builder().max_size(size).max_lifetime(None).idle_timeout(None).test_on_check_out(false);
    Supply::new(builder.build_unchecked(nowhere.clone()), size, Arc::new(ConnectFailures::new()))
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Between the notification of a connection and the look at it.
#[tokio::test]
async fn a_waiter_dropped_after_its_notification_passes_it_on() {
    let nowhere = ToNowhere::default();
    let supply = supply(&nowhere, 1);
    let only = supply.next().await;
    let (mut first, mut second) = (Box::pin(supply.next()), Box::pin(supply.next()));
    assert!(poll_immediate(&mut first).await.is_none() && poll_immediate(&mut second).await.is_none());
    drop(only);
    assert!(poll_immediate(&mut first).await.is_none(), "it has heard, and not looked");
    drop(first);
    timeout(HANG, second).await.expect("it lies there");
}

#[tokio::test]
async fn a_connection_that_is_being_opened_is_not_opened_a_second_time() {
    let nowhere = ToNowhere::default();
    let supply = supply(&nowhere, 4);
    assert_eq!(supply.missing(2), 2);
    nowhere.0.is_silent.store(true, Ordering::SeqCst);
    timeout(SOON, supply.next()).await.unwrap_err();
    assert_eq!((supply.connections(), supply.missing(2), supply.missing(1)), (0, 1, 0));
    nowhere.0.is_silent.store(false, Ordering::SeqCst);
    let _one = timeout(HANG, supply.next()).await.unwrap();
    assert_eq!((supply.connections(), supply.missing(2), supply.missing(0)), (1, 1, 0));
}

#[test]
fn a_connect_that_ends_with_its_runtime_frees_its_slot() {
    let nowhere = ToNowhere::default();
    let supply = supply(&nowhere, 1);
    nowhere.0.is_silent.store(true, Ordering::SeqCst);
    let first = runtime();
    first.block_on(async { timeout(SOON, supply.next()).await.unwrap_err() });
    assert!(supply.has_hope(), "it goes on for others");
    let second = runtime();
    // A waiter elsewhere has one opened there.
    let waits = second.spawn({
        let supply = Arc::clone(&supply);
        async move { drop(supply.next().await) }
    });
    second.block_on(async { sleep(SOON).await });
    assert_eq!(nowhere.0.connects.load(Ordering::SeqCst), 1);
    drop(first);
    nowhere.0.is_silent.store(false, Ordering::SeqCst);
    second.block_on(async { timeout(HANG, waits).await.unwrap().unwrap() });
}

#[tokio::test]
async fn a_panic_is_a_failed_connect() {
    let nowhere = ToNowhere::default();
    let supply = supply(&nowhere, 1);
    nowhere.0.panics.store(true, Ordering::SeqCst);
    timeout(SOON, supply.next()).await.unwrap_err();
    assert_eq!((supply.failures.count(), supply.has_hope()), (1, false));
    assert_eq!(nowhere.0.connects.load(Ordering::SeqCst), 1, "it is not tried again and again");
    nowhere.0.panics.store(false, Ordering::SeqCst);
    timeout(HANG, supply.next()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_are_there_more_than_may_be_and_nobody_is_forgotten() {
    let nowhere = ToNowhere(Arc::new(Nowhere { fails_one_in: 5, ..Nowhere::default() }));
    let supply = supply(&nowhere, 3);
    let mut callers = JoinSet::new();
    for caller in 0..8_u64 {
        let supply = Arc::clone(&supply);
        callers.spawn(async move {
            for round in 0..500 {
                let random = mix(caller << 32 | round);
                match random % 4 {
                    // One waiter stops, but the connection that it had opened is there for the others.
                    0 => _ = timeout(Duration::from_micros(random % 200), supply.next()).await,
                    1 => drop(supply.idle()),
                    2 => {
                        if let Some(slot) = supply.slot() {
                            slot.open().await;
                        }
                    }
                    _ => loop {
                        let so_far = supply.failures.count();
                        let until = tokio::time::Instant::now() + HANG;
                        let next = Box::pin(supply.next());
                        // A waiter watches the failures.
                        if let Some(one) = supply.failures.unless_failed(so_far, until, next).await.expect("no hang") {
                            yield_now().await;
                            drop(one);
                            break;
                        }
                    },
                }
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    // A connection that nobody waits for any more is still opened.
    while supply.counts().opening > 0 {
        sleep(SOON).await;
    }
    assert_eq!(nowhere.0.there.load(Ordering::SeqCst), supply.connections());
    let (connects, most) = (nowhere.0.connects.load(Ordering::SeqCst), nowhere.0.most.load(Ordering::SeqCst));
    assert!(most <= 3 && connects > 100, "{connects} were opened, {most} at a time");
    assert_eq!(supply.counts().looking, 0);
}
