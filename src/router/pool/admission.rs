//! The order in which calls get the connections of a pool: first come, first served.
//!
//! bb8 gives a connection to the first caller that looks, and wakes one waiter, which may find it gone and then waits
//! again, at the end: a caller that returns a connection and requests the next one at once starves all others (a test
//! below shows it). So callers queue here before they look. There are as many permits as the pool may have connections,
//! granted in order. A call with a permit finds a connection or room to open one, unless the server accepts fewer than
//! that. Then the calls with a permit take turns.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// The kind of caller that requests a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Refused if too many wait already.
    User,
    /// The router and the layers above, for their own work: few calls, which are never refused because of a full queue.
    Library,
}

/// The queue in front of one pool.
#[derive(Debug)]
pub(in crate::router) struct Admission {
    places: Arc<Semaphore>,
    /// Of the calls with a permit but no connection, one at a time looks for the next.
    turn: Semaphore,
    waiting: AtomicU32,
    /// The calls that wait for a permit, and how many may.
    in_line: AtomicU32,
    most_in_line: u32,
}

/// A permit, until it is dropped: after the connection that it was for.
#[derive(Debug)]
pub(in crate::router) struct Permit {
    _permit: OwnedSemaphorePermit,
}

/// Counts a waiter while it exists.
#[derive(Debug)]
pub(in crate::router) struct Waiting<'a>(&'a AtomicU32);

impl Admission {
    pub(in crate::router) fn new(connections: u32, most_in_line: u32) -> Self {
        Self {
            places: Arc::new(Semaphore::new(connections as usize)),
            turn: Semaphore::new(1),
            waiting: AtomicU32::new(0),
            in_line: AtomicU32::new(0),
            most_in_line,
        }
    }

    /// A permit, if nobody waits for one. No lock, no allocation.
    pub(in crate::router) fn try_enter(&self) -> Option<Permit> {
        // A permit that becomes free belongs to the first waiter before anyone can see that it is free.
        Arc::clone(&self.places).try_acquire_owned().ok().map(|permit| Permit { _permit: permit })
    }

    /// A permit, once it is this caller's turn.
    pub(in crate::router) async fn enter(&self) -> Permit {
        match Arc::clone(&self.places).acquire_owned().await {
            Ok(permit) => Permit { _permit: permit },
            // It is never closed.
            Err(_) => std::future::pending().await,
        }
    }

    /// Whether there are fewer connections than permits, and a call with a permit waits for one.
    pub(in crate::router) fn is_short(&self) -> bool {
        self.turn.available_permits() == 0
    }

    /// Waits for its turn among the calls with a permit and no connection.
    pub(in crate::router) async fn turn(&self) -> SemaphorePermit<'_> {
        match self.turn.acquire().await {
            Ok(turn) => turn,
            Err(_) => std::future::pending().await,
        }
    }

    /// Counts one more waiter.
    pub(in crate::router) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.waiting)
    }

    /// Puts a call in the queue, or returns the length of a full queue.
    pub(in crate::router) fn get_in_line(&self) -> Result<Waiting<'_>, u32> {
        let one_more = |in_line: u32| (in_line < self.most_in_line).then_some(in_line + 1);
        self.in_line.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)?;
        Ok(Waiting(&self.in_line))
    }

    /// The number of calls that wait for a connection.
    pub(in crate::router) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Mutex};

    use tokio::task::{JoinSet, yield_now};

    use super::*;

    /// Connections to nowhere.
    #[derive(Debug)]
    struct Nowhere;

    impl bb8::ManageConnection for Nowhere {
        type Connection = ();
        type Error = Infallible;

        async fn connect(&self) -> Result<(), Infallible> {
            Ok(())
        }

        async fn is_valid(&self, _: &mut ()) -> Result<(), Infallible> {
            Ok(())
        }

        fn has_broken(&self, _: &mut ()) -> bool {
            false
        }
    }

    async fn pool() -> bb8::Pool<Nowhere> {
        bb8::Pool::builder().max_size(1).test_on_check_out(false).build(Nowhere).await.unwrap()
    }

    /// Not a promise of ours, but the reason for this file. If it fails, bb8 has become fair.
    #[tokio::test]
    async fn bb8_alone_starves_whoever_waits() {
        let pool = pool().await;
        let mut held = pool.get_owned().await.unwrap();
        let waiting = tokio::spawn({
            let pool = pool.clone();
            async move { pool.get_owned().await.map(drop) }
        });
        for _ in 0..1000 {
            // The waiter looks now.
            yield_now().await;
            drop(held);
            held = pool.get_owned().await.unwrap();
        }
        assert!(!waiting.is_finished());
        drop(held);
        waiting.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn connections_are_given_out_in_the_order_of_asking() {
        let (pool, admission) = (pool().await, Arc::new(Admission::new(1, u32::MAX)));
        let (order, mut tasks) = (Arc::new(Mutex::new(Vec::new())), JoinSet::new());
        let held = (pool.get_owned().await.unwrap(), admission.try_enter().unwrap());
        for caller in 0..9 {
            let (pool, admission, order) = (pool.clone(), Arc::clone(&admission), Arc::clone(&order));
            tasks.spawn(async move {
                // Each returns at once, like a caller in a loop.
                for _ in 0..3 {
                    let place = match admission.try_enter() {
                        Some(place) => place,
                        None => {
                            let _waiting = admission.wait();
                            admission.enter().await
                        }
                    };
                    let connection = pool.get_owned().await.unwrap();
                    order.lock().unwrap().push(caller);
                    drop((connection, place));
                }
            });
            yield_now().await;
        }
        assert_eq!(admission.waiting(), 9);
        assert!(admission.try_enter().is_none());
        drop(held);
        while tasks.join_next().await.transpose().unwrap().is_some() {}
        assert_eq!(*order.lock().unwrap(), (0..3).flat_map(|_| 0..9).collect::<Vec<_>>());
        assert_eq!(admission.waiting(), 0);
    }

    #[tokio::test]
    async fn a_cancelled_waiter_leaves_its_turn_to_the_others() {
        let admission = Arc::new(Admission::new(1, u32::MAX));
        let place = admission.try_enter().unwrap();
        let enter = |admission: &Arc<Admission>| {
            let admission = Arc::clone(admission);
            tokio::spawn(async move {
                let _waiting = admission.wait();
                admission.enter().await
            })
        };
        let (first, second) = (enter(&admission), enter(&admission));
        yield_now().await;
        assert_eq!(admission.waiting(), 2);
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        drop(place);
        drop(second.await.unwrap());
        assert!(admission.try_enter().is_some() && admission.waiting() == 0);
    }
}
