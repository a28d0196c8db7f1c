//! Who gets the next connection of a pool: whoever came first.
//!
//! bb8 hands a connection to whoever looks first, and wakes one of those who wait, who may find it gone and waits anew, at
//! the end: a caller that gives a connection back and asks for the next one at once starves all others (a test below shows
//! it). So callers line up here before they look. There are as many places as the pool may have connections, given out in
//! order; whoever has one finds a connection or room to open one, unless the server lets in fewer than that. Then those
//! who have a place take turns.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Who asks for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Refused when too many wait already.
    User,
    /// The router and the layers above, for themselves: few calls, for which no line is too full.
    Library,
}

/// The line in front of one pool.
#[derive(Debug)]
pub(super) struct Admission {
    places: Arc<Semaphore>,
    /// Of those who have a place and found no connection, one at a time looks for the next.
    turn: Semaphore,
    waiting: AtomicU32,
    /// Of them, the calls that wait for a place, and how many may.
    in_line: AtomicU32,
    most_in_line: u32,
}

/// A place, until it is dropped: after the connection that it was for.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
}

/// One who waits, and is counted as long.
#[derive(Debug)]
pub(super) struct Waiting<'a>(&'a AtomicU32);

impl Admission {
    pub(super) fn new(connections: u32, most_in_line: u32) -> Self {
        Self {
            places: Arc::new(Semaphore::new(connections as usize)),
            turn: Semaphore::new(1),
            waiting: AtomicU32::new(0),
            in_line: AtomicU32::new(0),
            most_in_line,
        }
    }

    /// A place, if nobody waits for one. No lock, no allocation.
    pub(super) fn try_enter(&self) -> Option<Place> {
        // A place that becomes free belongs to the first of those who wait before anybody can see that it is free.
        Arc::clone(&self.places).try_acquire_owned().ok().map(|permit| Place { _permit: permit })
    }

    /// A place, once it is this caller's turn.
    pub(super) async fn enter(&self) -> Place {
        match Arc::clone(&self.places).acquire_owned().await {
            Ok(permit) => Place { _permit: permit },
            // Nobody closes it.
            Err(_) => std::future::pending().await,
        }
    }

    /// Whether there are fewer connections than places, and somebody who has a place waits for one.
    pub(super) fn is_short(&self) -> bool {
        self.turn.available_permits() == 0
    }

    /// Waits for its turn among those who have a place and no connection.
    pub(super) async fn turn(&self) -> SemaphorePermit<'_> {
        match self.turn.acquire().await {
            Ok(turn) => turn,
            Err(_) => std::future::pending().await,
        }
    }

    /// Counts one more who waits.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.waiting)
    }

    /// Gets a call in line, or tells how many are in it, which are as many as may.
    pub(super) fn get_in_line(&self) -> Result<Waiting<'_>, u32> {
        let one_more = |in_line: u32| (in_line < self.most_in_line).then_some(in_line + 1);
        self.in_line.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)?;
        Ok(Waiting(&self.in_line))
    }

    /// How many wait for a connection.
    pub(super) fn waiting(&self) -> u32 {
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

    /// Not a promise of ours: the reason for this file. If it fails, bb8 has become fair.
    #[tokio::test]
    async fn bb8_alone_starves_whoever_waits() {
        let pool = pool().await;
        let mut held = pool.get_owned().await.unwrap();
        let waiting = tokio::spawn({
            let pool = pool.clone();
            async move { pool.get_owned().await.map(drop) }
        });
        for _ in 0..1000 {
            // The one who waits looks now.
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
                // Each comes back at once, like one that works in a loop.
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
    async fn who_gives_up_leaves_the_line_to_the_others() {
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
