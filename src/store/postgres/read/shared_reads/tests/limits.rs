//! How long a read waits for others, and its caller for it.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_read_that_takes_long_holds_the_next_up_for_a_while_only() {
    let (reads, log) = (SharedReads::new(true), Log::new());
    // It is polled once, and then its caller does something else.
    let mut held = ask(&reads, &log, LIMIT);
    assert!((&mut held).now_or_never().is_none());
    log.append();
    let begun = Instant::now();
    let others: Vec<_> = (0..3).map(|_| spawn(&reads, &log)).collect();
    sleep(PATIENCE - Duration::from_millis(1)).await;
    assert_eq!(log.begun(), 1);
    sleep(Duration::from_millis(2)).await;
    assert_eq!(log.begun(), 2);
    // With two of them in flight, the next one waits twice as long, unless the younger one ends.
    let more = spawn(&reads, &log);
    sleep(2 * PATIENCE - Duration::from_millis(1)).await;
    assert_eq!(log.begun(), 2);
    sleep(Duration::from_millis(2)).await;
    assert_eq!(log.begun(), 3);
    assert!(begun.elapsed() < 4 * PATIENCE);
    log.answer(3);
    for other in join_all(others.into_iter().chain([more])).await {
        assert_eq!(other.unwrap().unwrap(), 2);
    }
    assert_eq!(held.await.unwrap(), 1);
    assert!(is_forgotten(&reads));
}

#[tokio::test(start_paused = true)]
async fn only_a_few_slow_reads_are_in_flight_at_a_time() {
    let (reads, log) = (SharedReads::new(true), Log::new());
    // A hundred callers a second, none of which is answered for three seconds.
    let mut asked = Vec::new();
    for _ in 0..300 {
        asked.push(spawn(&reads, &log));
        sleep(Duration::from_millis(10)).await;
    }
    assert!((3..=6).contains(&log.begun()), "{} have begun", log.begun());
    log.answer(10);
    assert!(join_all(asked).await.into_iter().all(|answer| answer.unwrap().is_ok()));
    assert!(is_forgotten(&reads));
}

/// Otherwise, a late caller would wait longer than the read takes.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_others_longer_than_a_second() {
    let (reads, log) = (SharedReads::new(true), Log::new());
    let mut asked = Vec::new();
    for _ in 0..100 {
        asked.push(tokio::spawn(ask(&reads, &log, Duration::from_secs(60))));
        sleep(PATIENCE).await;
    }
    assert!((11..=15).contains(&log.begun()), "{} have begun within ten seconds", log.begun());
    log.answer(20);
    assert!(join_all(asked).await.into_iter().all(|answer| answer.unwrap().is_ok()));
}

#[tokio::test(start_paused = true)]
async fn each_waits_as_long_as_they_wanted_to() {
    let (reads, log) = (SharedReads::new(true), Log::new());
    let first = spawn(&reads, &log);
    settle().await;
    let begun = Instant::now();
    let short = tokio::spawn(ask(&reads, &log, Duration::from_secs(1)));
    settle().await;
    let long = tokio::spawn(ask(&reads, &log, Duration::from_secs(60)));
    let error = short.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("within the limit of 1s"), "{error}");
    assert_eq!(begun.elapsed().as_secs(), 1);
    assert_eq!(first.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    sleep(Duration::from_secs(50)).await;
    assert!(!long.is_finished(), "the shared read has the limit of who can wait longest");
    log.answer(1);
    assert_eq!(long.await.unwrap().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_for_others_than_a_quarter_of_their_limit() {
    let (reads, log) = (SharedReads::new(true), Log::new());
    let first = spawn(&reads, &log);
    settle().await;
    let second = spawn(&reads, &log);
    settle().await;
    let hurried = tokio::spawn(ask(&reads, &log, Duration::from_millis(80)));
    sleep(Duration::from_millis(19)).await;
    assert_eq!(log.begun(), 1);
    sleep(Duration::from_millis(2)).await;
    assert_eq!(log.begun(), 2, "the shared read begins earlier for one who has less time");
    log.answer(2);
    assert!(join_all([first, second, hurried]).await.into_iter().all(|answer| answer.unwrap().is_ok()));
    let held = spawn(&reads, &log);
    settle().await;
    let founder = tokio::spawn(ask(&reads, &log, Duration::from_millis(80)));
    sleep(Duration::from_millis(21)).await;
    assert_eq!(log.begun(), 4);
    log.answer(2);
    assert!(join_all([held, founder]).await.into_iter().all(|answer| answer.unwrap().is_ok()));
    assert!(is_forgotten(&reads));
}

#[tokio::test(start_paused = true)]
async fn many_who_have_little_time_share_a_read_all_the_same() {
    let (reads, log) = (SharedReads::new(true), Log::new());
    let patient = [(); 2].map(|()| tokio::spawn(ask(&reads, &log, Duration::MAX)));
    settle().await;
    let mut asked = Vec::new();
    for _ in 0..100 {
        asked.push(tokio::spawn(ask(&reads, &log, Duration::from_secs(2))));
        sleep(Duration::from_millis(10)).await;
    }
    assert!((3..=5).contains(&log.begun()), "{} have begun", log.begun());
    log.answer(10);
    assert!(join_all(patient.into_iter().chain(asked)).await.into_iter().all(|answer| answer.unwrap().is_ok()));
    assert!(is_forgotten(&reads));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_was_waited_for_in_vain_is_not_waited_for_again() {
    let (reads, log) = (SharedReads::new(true), Log::new());
    // A node that does not answer has got it.
    let mut held = ask(&reads, &log, LIMIT);
    assert!((&mut held).now_or_never().is_none());
    let next = spawn(&reads, &log);
    sleep(PATIENCE + Duration::from_millis(1)).await;
    // The held one was first in the queue.
    log.answer(2);
    assert_eq!(next.await.unwrap().unwrap(), 1);
    log.answer(1);
    let begun = Instant::now();
    assert_eq!(ask(&reads, &log, LIMIT).await.unwrap(), 1);
    assert_eq!(begun.elapsed(), Duration::ZERO, "no other read is waited for");
    assert!(!is_forgotten(&reads), "the first is under way");
    assert!(held.await.is_ok() && is_forgotten(&reads));
}

#[tokio::test(start_paused = true)]
async fn limits_may_be_nothing_or_endless() {
    let (reads, log) = (SharedReads::new(true), Log::new());
    let endless = [(); 3].map(|()| tokio::spawn(ask(&reads, &log, Duration::MAX)));
    settle().await;
    let none = ask(&reads, &log, Duration::ZERO).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Timeout);
    log.answer(2);
    assert!(join_all(endless).await.into_iter().all(|answer| answer.unwrap().is_ok()));
    assert!(is_forgotten(&reads));
}

#[tokio::test(start_paused = true)]
async fn callers_that_arrive_together_get_the_error_of_the_shared_read() {
    let (reads, log) = (SharedReads::new(true), Log::new());
    let first = spawn(&reads, &log);
    let asked: Vec<_> = (0..5)
        .map(|n| {
            let ask = ask(&reads, &log, LIMIT);
            tokio::spawn(async move {
                sleep(Duration::from_millis(n * 3)).await;
                ask.await
            })
        })
        .collect();
    for one in join_all(asked.into_iter().chain([first])).await {
        let error = one.unwrap().unwrap_err();
        assert!(error.to_string().contains("the log's own limit"), "{error}");
    }
    settle().await;
    assert!(is_forgotten(&reads));
}
