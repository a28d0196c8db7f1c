//! How the flawed store continues a read.

use mainstem::{Event, Piece, ReadBehindRequest};

use super::{
    flawed::FlawedStore,
    flaws::{Flaw, matches},
};

impl FlawedStore {
    pub(super) fn read_on(&self, request: &ReadBehindRequest) -> Piece {
        let log = self.log();
        let (after, until) = (request.after.position(), request.until.unwrap_or(u64::MAX));
        let spanned = log.events.iter().filter(|event| event.position() > after && event.position() <= until);
        let last_spanned = spanned.clone().next_back().map(Event::mark);
        let fits_alone = |event: &&Event| event.byte_len() <= request.limit_bytes.max(1_000);
        let mut found: Vec<Event> = spanned
            .filter(|event| matches(self.flaw, &request.filter, event))
            .filter(|event| !self.has(Flaw::LeavesOutWhatIsTooLarge) || fits_alone(event))
            .cloned()
            .collect();
        let fitting = match self.flaw {
            Some(Flaw::HasPiecesOfAnySize) => found.len().min(usize::try_from(request.limit).expect("a limit")),
            _ => request.fitting(&found),
        };
        let behind = found.get(fitting).map(Event::mark);
        found.truncate(fitting);
        let reached = match (behind, self.flaw) {
            (None, _) | (_, Some(Flaw::TakesTheLimitForTheEnd)) => last_spanned,
            (_, Some(Flaw::LeavesOutTheEventWithoutRoom)) => behind,
            _ => found.last().map(Event::mark),
        };
        Piece::new(found, reached, log.events.last().map(Event::mark))
    }
}
