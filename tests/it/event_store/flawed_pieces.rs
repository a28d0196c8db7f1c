//! How the flawed store continues a read, and waits for more.

use std::{future::pending, time::Duration};

use mainstem::{
    Event, Result,
    backend::{After, Piece, ReadAfterRequest, WaitRequest},
};
use tokio::time::sleep;

use super::{
    flawed::FlawedStore,
    flaws::{Flaw, matches},
};

const MOMENT: Duration = Duration::from_millis(1);

impl FlawedStore {
    pub(super) async fn wait(&self, request: &WaitRequest) -> Result<()> {
        let head = || self.log().events.last().map(Event::mark);
        let mut begun = head();
        match self.flaw {
            Some(Flaw::SleepsForEver) => pending().await,
            Some(Flaw::NeverRests) => return Ok(()),
            Some(Flaw::SleepsThroughWhatComesAtOnce) if request.is_over(begun) => return Ok(()),
            Some(Flaw::SleepsThroughWhatComesAtOnce) => {
                sleep(2 * MOMENT).await;
                begun = head();
            }
            _ => {}
        }
        loop {
            let now = head();
            let is_over = match self.flaw {
                Some(Flaw::WaitsForTheNextAppend | Flaw::SleepsThroughWhatComesAtOnce) => now != begun,
                Some(Flaw::WaitsAtLostEvents) => now.map_or(0, |head| head.position()) > request.after.position(),
                _ => request.is_over(now),
            };
            if is_over {
                return Ok(());
            }
            sleep(MOMENT).await;
        }
    }

    pub(super) fn read_on(&self, request: &ReadAfterRequest) -> Result<Piece> {
        let log = self.log();
        let (after, until) = (request.after.position(), request.until.unwrap_or(u64::MAX));
        if let After::Mark(mark) = request.after
            && !self.has(Flaw::ReadsOnFromAnyMark)
            && !log.events.iter().any(|event| event.mark() == mark)
        {
            return Err(request.diverged(log.events.last().map_or(0, Event::position)));
        }
        let spanned = log.events.iter().filter(|event| event.position() > after && event.position() <= until);
        let last_spanned = spanned.clone().next_back().map(Event::mark);
        let fits_alone = |event: &&Event| event.byte_len() <= request.limit_bytes.max(1_000);
        let mut found: Vec<Event> = spanned
            .filter(|event| matches(self.flaw, &request.filter, event))
            .filter(|event| !self.has(Flaw::LeavesOutWhatIsTooLarge) || fits_alone(event))
            .cloned()
            .collect();
        let fitting = match self.flaw {
            Some(Flaw::TakesALimitOfZeroForNone) if request.limit == 0 => found.len(),
            Some(Flaw::HasPiecesOfAnySize) => found.len().min(usize::try_from(request.limit).expect("a limit")),
            _ => request.fitting(&found),
        };
        let behind = found.get(fitting).map(Event::mark);
        found.truncate(fitting);
        let reached = match (behind, self.flaw) {
            (None, Some(Flaw::ReachesTheHeadFromItsWindow)) => log.events.last().map(Event::mark),
            (None, _) | (_, Some(Flaw::TakesTheLimitForTheEnd)) => last_spanned,
            (_, Some(Flaw::LeavesOutTheEventWithoutRoom)) => behind,
            _ => found.last().map(Event::mark),
        };
        Ok(Piece::new(found, log.events.last().map(Event::mark)).reached(reached))
    }
}
