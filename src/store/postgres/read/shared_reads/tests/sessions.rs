//! What reads with different requirements share.

use std::time::SystemTime;

use super::*;
use crate::{NewEvent, Payload, token::LogMark};

/// A token of an event at this position of one log.
fn seen(position: u64) -> Token {
    let event =
        NewEvent::from_payload("A", Payload::bytes("b", vec![])).into_recorded(position, SystemTime::UNIX_EPOCH);
    Token::of_mark(Some(1), LogMark { log: 1, position, id: event.id().into(), place: None })
}

/// Three reads, the first of which is alone, with the request of each; returns their results and the requests that were
/// made.
async fn three(asked: [Question; 3], answer: fn(&Question) -> Result<u64>) -> (Vec<Result<u64>>, Vec<Question>) {
    let reads: Reads = SharedReads::new(true);
    let made = Arc::new(Mutex::new(Vec::new()));
    let asked = asked.map(|asked| {
        let (reads, made) = (Arc::clone(&reads), Arc::clone(&made));
        tokio::spawn(async move {
            let read = move |asked: Arc<Question>, _| {
                made.lock().unwrap().push(Question::clone(&asked));
                async move {
                    sleep(Duration::from_millis(10)).await;
                    answer(&asked)
                }
            };
            reads.answer(asked, Deadline::after(LIMIT), read).await
        })
    });
    let answers = join_all(asked).await.into_iter().map(|answer| answer.unwrap()).collect();
    assert!(is_forgotten(&reads));
    let made = made.lock().unwrap().clone();
    (answers, made)
}

fn strong(floor: &Token, wants_token: bool) -> Question {
    Question { floor: floor.clone(), wants_token, ..Question::default() }
}

#[tokio::test(start_paused = true)]
async fn a_strong_read_tells_where_it_was_if_one_of_those_who_share_it_asks_for_that() {
    for seen in [Token::new(), seen(3)] {
        for wants in [[true, false], [false, true], [false, false]] {
            let [one, other] = wants.map(|wants| strong(&seen, wants));
            let (answers, made) = three([strong(&seen, false), one, other], |_| Ok(1)).await;
            assert!(answers.into_iter().all(|answer| answer.is_ok()));
            assert_eq!(made, [strong(&seen, false), strong(&seen, wants[0] || wants[1])]);
        }
    }
}

/// No read can look for two events of one log and give each reader a correct answer; and a reader that has seen less
/// must not wait for more.
#[tokio::test(start_paused = true)]
async fn reads_are_shared_by_those_who_have_seen_the_same() {
    for level in
        [Consistency::Strong, Consistency::Eventual, Consistency::Bounded(LIMIT), Consistency::AtLeast(seen(1))]
    {
        let question = |floor: &Token| Question { level: level.clone(), floor: floor.clone(), ..Question::default() };
        let asked = [&seen(3), &seen(7), &Token::new()].map(question);
        let (answers, made) = three(asked.clone(), |_| Ok(1)).await;
        assert!(answers.into_iter().all(|answer| answer.is_ok()));
        assert_eq!(made, asked, "each for itself");
        let same = seen(5);
        let (_, made) = three([&same; 3].map(question), |_| Ok(1)).await;
        assert_eq!(made.len(), 2, "the first is alone, and the others share the second");
    }
}

/// A lost event that one reader has seen concerns only that reader, and so does a wait in vain.
#[tokio::test(start_paused = true)]
async fn an_error_about_what_one_reader_has_seen_spares_the_others() {
    for kind in [ErrorKind::LogDiverged, ErrorKind::Unproven, ErrorKind::Timeout] {
        let lost = match kind {
            ErrorKind::LogDiverged => |asked: &Question| has_seen_nothing(asked, ErrorKind::LogDiverged),
            ErrorKind::Unproven => |asked: &Question| has_seen_nothing(asked, ErrorKind::Unproven),
            _ => |asked: &Question| has_seen_nothing(asked, ErrorKind::Timeout),
        };
        let (answers, _) =
            three([strong(&Token::new(), false), strong(&seen(9), false), strong(&Token::new(), true)], lost).await;
        let kinds: Vec<_> = answers.into_iter().map(|answer| answer.map_err(|error| error.kind())).collect();
        assert_eq!(kinds, [Ok(1), Err(kind), Ok(1)]);
    }
}

fn has_seen_nothing(asked: &Question, kind: ErrorKind) -> Result<u64> {
    if asked.floor.is_empty() { Ok(1) } else { Err(Error::new(kind, "it is not there")) }
}
