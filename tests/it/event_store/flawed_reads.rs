//! How the flawed store reads.

use std::time::{Duration, SystemTime};

use futures_util::stream::unfold;
use mainstem::{
    Consistency, Error, ErrorKind, Event, Filter, Mark, Result, Served,
    backend::{Answer, Bounds, BoxStream, Order, QueryRequest},
};

use super::{
    flawed::FlawedStore,
    flaws::{Flaw, matches},
};

/// Events of a page of its streams: so few that every stream has several.
const PAGE: u64 = 200;

impl FlawedStore {
    pub(super) fn read(&self, request: &QueryRequest) -> Result<Answer> {
        let log = self.log();
        if self.has(Flaw::FailsOnAnEmptyLog) && log.events.is_empty() {
            return Err(Error::new(ErrorKind::Schema, "there is no log yet"));
        }
        let is_behind = self.has(Flaw::ReadsWhatWasBefore)
            || self.has(Flaw::IgnoresTokens) && matches!(request.consistency, Consistency::AtLeast(_));
        let events = if is_behind { &log.before } else { &log.events };
        let mut selected: Vec<&Event> = events.iter().filter(|event| self.within(request.bounds, event)).collect();
        let limit = request.limit.map_or(usize::MAX, |limit| usize::try_from(limit).expect("a limit"));
        let newest_first = request.order == Order::NewestFirst;
        let is_match = |event: &&Event| matches(self.flaw, &request.filter, event);
        match self.flaw {
            Some(Flaw::LimitsBeforeItReverses) => {
                selected.retain(is_match);
                selected.truncate(limit);
            }
            Some(Flaw::LimitsBeforeItFilters) => {
                if newest_first {
                    selected = selected.split_off(selected.len().saturating_sub(limit));
                }
                selected.truncate(limit);
                selected.retain(is_match);
            }
            _ => selected.retain(is_match),
        }
        if newest_first && !self.has(Flaw::IgnoresTheOrder) {
            selected.reverse();
        }
        match self.flaw {
            Some(Flaw::IgnoresTheLimit) => {}
            Some(Flaw::ReadsAtMostAThousand) => selected.truncate(limit.min(1_000)),
            _ => selected.truncate(limit),
        }
        if self.has(Flaw::ReadsBackwards) {
            selected.reverse();
        }
        let head = match self.flaw {
            Some(Flaw::LosesTheHeadOfAnEmptyRead) if selected.is_empty() => None,
            Some(Flaw::TakesTheLastMatchForTheHead) => selected.last().map(|event| event.mark()),
            _ => events.last().map(Event::mark),
        };
        Ok(Answer::new(selected.into_iter().cloned().collect(), head))
    }

    fn within(&self, bounds: Bounds, event: &Event) -> bool {
        let time = |micros: i64| {
            let distance = Duration::from_micros(micros.unsigned_abs());
            if micros < 0 {
                SystemTime::UNIX_EPOCH.checked_sub(distance)
            } else {
                SystemTime::UNIX_EPOCH.checked_add(distance)
            }
        };
        let behind = |after| match self.flaw {
            Some(Flaw::ReadsTheEventAtTheBound) => event.position() >= after,
            _ => event.position() > after,
        };
        let up_to = |until| match self.flaw {
            Some(Flaw::LeavesOutTheLastPosition) => event.position() < until,
            _ => event.position() <= until,
        };
        let (from, until) = (bounds.occurred_from.and_then(time), bounds.occurred_until.and_then(time));
        let excluded = self.has(Flaw::LeavesOutTheEndOfTime) && until == Some(event.occurred_at());
        bounds.after.is_none_or(behind)
            && bounds.until.is_none_or(up_to)
            && !excluded
            && from.is_none_or(|from| from <= event.occurred_at())
            && until.is_none_or(|until| event.occurred_at() <= until)
    }

    pub(super) fn count(&self, mut request: QueryRequest) -> Result<Served<u64>> {
        match self.flaw {
            Some(Flaw::CountsTheWholeLog) => request.filter = Filter::any_event(),
            Some(Flaw::CountsWithoutBounds) => request.bounds = Bounds::default(),
            _ => {}
        }
        self.read(&request).map(|answer| Served::new(answer.events.len() as u64))
    }

    pub(super) fn exists(&self, mut request: QueryRequest) -> Result<Served<bool>> {
        match self.flaw {
            Some(Flaw::FindsAnythingInALog) => request.filter = Filter::any_event(),
            Some(Flaw::FindsWhatIsBeyondTheBounds) => request.bounds = Bounds::default(),
            _ => {}
        }
        self.read(&request).map(|answer| Served::new(!answer.events.is_empty()))
    }

    pub(super) fn pages(&self, request: QueryRequest) -> BoxStream<Result<Answer>> {
        let made = self.read(&request).ok();
        let pages = Pages { store: self.clone(), rest: request, head: None, made, over: false };
        Box::pin(unfold(pages, async |mut pages| {
            let answer = pages.next()?;
            Some((answer, pages))
        }))
    }
}

struct Pages {
    store: FlawedStore,
    rest: QueryRequest,
    head: Option<Option<Mark>>,
    /// All that there was when the stream was made.
    made: Option<Answer>,
    over: bool,
}

impl Pages {
    fn next(&mut self) -> Option<Result<Answer>> {
        if self.over {
            return None;
        }
        let mut page = self.rest.clone();
        let amount = page.limit.map_or(PAGE, |limit| limit.min(PAGE));
        page.limit = Some(amount);
        let mut answer = match self.store.read(&page) {
            Ok(answer) => answer,
            Err(error) => {
                self.over = true;
                return Some(Err(error));
            }
        };
        let head = *self.head.get_or_insert(answer.head);
        answer.head = head;
        let read = answer.events.len() as u64;
        self.over = read < amount || head.is_none() || self.rest.limit.is_some_and(|limit| limit <= read);
        self.rest.limit = self.rest.limit.map(|limit| limit.saturating_sub(read));
        if let (Some(head), false) = (head, self.store.has(Flaw::StreamsToTheHeadOfItsEnd)) {
            let head = head.position();
            self.rest.bounds.until = Some(self.rest.bounds.until.map_or(head, |until| until.min(head)));
        }
        if let Some(last) = answer.events.last().map(Event::position) {
            let again = u64::from(self.store.has(Flaw::StreamsAPageTwice));
            match self.rest.order {
                Order::NewestFirst => self.rest.bounds.until = Some(last - 1 + again),
                _ => self.rest.bounds.after = Some(last - again),
            }
        }
        match self.store.flaw {
            Some(Flaw::StreamsOnePage) => self.over = true,
            Some(Flaw::StreamsTheLastMatchAsTheHead) => answer.head = answer.events.last().map(Event::mark),
            Some(Flaw::StreamsWhatWasThereWhenItWasMade) => {
                self.over = true;
                answer.events = self.made.take().map(|made| made.events).unwrap_or_default();
            }
            _ => {}
        }
        Some(Ok(answer))
    }
}
