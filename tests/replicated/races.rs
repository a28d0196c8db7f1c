//! Many concurrent decisions, based on what replicas show.

use std::time::Duration;

use mainstem::{
    Consistency, EventStore, Filter, NewEvent, Role,
    testing::{TestCluster, TestNode},
};
use tokio::time::timeout;

use super::{Clusters, HANG, append, event, log, own};

const TASKS: usize = 8;
const SEATS: usize = 12;

fn seat(seat: usize) -> Filter {
    Filter::matching().all_tags_of([format!("seat:{seat}")]).finish().unwrap()
}

fn booked(seat: usize) -> NewEvent {
    event("Booked").with_tag(format!("seat:{seat}"))
}

pub(crate) async fn decisions_on_stale_replicas_are_refused_and_never_written<C: Clusters>() {
    let cluster = own::<C>(2).await;
    let (_database, _router, store) = log(&cluster, |builder| builder).await;
    for replica in cluster.replicas() {
        replica.delay_replay(Duration::from_millis(300)).await.unwrap();
    }
    let customers = (0..TASKS).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let (mut booked_by_us, mut stale) = (0, 0);
            for number in 0..SEATS {
                let seen = store.query(&seat(number)).consistency(Consistency::Eventual).await.unwrap();
                assert_eq!(seen.role(), Role::Replica);
                if !seen.is_empty() {
                    continue;
                }
                match store.append([booked(number)], seen.unchanged()).await {
                    Ok(_) => booked_by_us += 1,
                    Err(error) => {
                        assert!(error.is_conflict(), "{}", error.report());
                        stale += 1;
                    }
                }
            }
            (booked_by_us, stale)
        })
    });
    let (mut bookings, mut stale) = (0, 0);
    for customer in customers.collect::<Vec<_>>() {
        let (booked_by_him, refused) = timeout(HANG, customer).await.expect("no hang").unwrap();
        bookings += booked_by_him;
        stale += refused;
    }
    assert_eq!(bookings, SEATS, "each seat has one owner");
    assert!(stale > 0, "nobody has decided on a stale read: it was no race");
    for number in 0..SEATS {
        assert_eq!(*store.count(&seat(number)).await.unwrap(), 1, "seat {number}");
    }
}

pub(crate) async fn every_read_of_a_replica_is_the_beginning_of_the_log<C: Clusters>() {
    let (_database, _router, store) = log(C::shared().await, |builder| builder).await;
    let writers: Vec<_> = (0..TASKS / 2)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..25 {
                    append(&store, "A").await;
                }
            })
        })
        .collect();
    let mut reads = Vec::new();
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        let history = store.query(&Filter::any_event()).consistency(Consistency::Eventual).await.unwrap();
        assert_eq!(history.role(), Role::Replica);
        reads.push(history.iter().map(mainstem::Event::id).collect::<Vec<_>>());
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let log: Vec<_> = store.query(&Filter::any_event()).await.unwrap().iter().map(mainstem::Event::id).collect();
    assert_eq!(log.len(), TASKS / 2 * 25);
    assert!(!reads.is_empty());
    for read in reads {
        assert_eq!(read[..], log[..read.len()]);
    }
}
