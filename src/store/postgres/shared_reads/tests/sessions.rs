//! What is shared by reads that have to contain different things.

use std::time::SystemTime;

use super::*;
use crate::{NewEvent, token::LogMark};

/// Of an event at this position of one log.
fn seen(position: u64) -> Token {
    let event = NewEvent::from_bytes("A", "b", vec![]).into_recorded(position, SystemTime::UNIX_EPOCH);
    Token::of_mark(Some(1), LogMark { log: 1, position, id: event.id().into(), place: None })
}

/// Three reads, of which the first is alone, with what each of them asks for; and with what they are made.
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
async fn a_strong_read_of_all_contains_what_each_asks_for() {
    let (low, high) = (seen(3), seen(7));
    let (answers, made) =
        three([strong(&low, false), strong(&high, true), strong(&Token::new(), false)], |_| Ok(1)).await;
    assert!(answers.into_iter().all(|answer| answer.is_ok()));
    assert_eq!(made, [strong(&low, false), strong(&high, true)], "the first is alone, and the others share the second");
    // Whoever of them asks for it.
    for wants in [[true, false], [false, true], [false, false]] {
        let (one, other) = (strong(&low, wants[0]), strong(&high, wants[1]));
        let (_, made) = three([strong(&Token::new(), false), one, other], |_| Ok(1)).await;
        assert_eq!(made[1], strong(&low.merge(&high), wants[0] || wants[1]));
    }
}

/// A replica that serves one may not have what another one has seen, and who asks for less must not wait for it.
#[tokio::test(start_paused = true)]
async fn only_strong_reads_are_shared_by_those_who_have_seen_different_things() {
    for level in [Consistency::Eventual, Consistency::Bounded(LIMIT), Consistency::AtLeast(seen(1))] {
        let asked = [seen(3), seen(7), Token::new()].map(|floor| Question {
            level: level.clone(),
            floor,
            ..Question::default()
        });
        let (answers, made) = three(asked.clone(), |_| Ok(1)).await;
        assert!(answers.into_iter().all(|answer| answer.is_ok()));
        assert_eq!(made, asked, "each for itself");
    }
}

/// That is between the one and the log, and no error of the others.
#[tokio::test(start_paused = true)]
async fn what_one_has_seen_and_is_lost_is_the_error_of_that_one() {
    for kind in [ErrorKind::LogDiverged, ErrorKind::Unproven] {
        let lost = match kind {
            ErrorKind::LogDiverged => |asked: &Question| match asked.floor.is_empty() {
                true => Ok(1),
                false => Err(Error::new(ErrorKind::LogDiverged, "it is lost")),
            },
            _ => |asked: &Question| match asked.floor.is_empty() {
                true => Ok(1),
                false => Err(Error::new(ErrorKind::Unproven, "nobody can tell")),
            },
        };
        let (answers, made) =
            three([strong(&Token::new(), false), strong(&seen(9), false), strong(&Token::new(), true)], lost).await;
        let kinds: Vec<_> = answers.into_iter().map(|answer| answer.map_err(|error| error.kind())).collect();
        assert_eq!(kinds, [Ok(1), Err(kind), Ok(1)]);
        assert_eq!(made.len(), 4, "one alone, one for two, and one for each of these: {made:?}");
    }
}
