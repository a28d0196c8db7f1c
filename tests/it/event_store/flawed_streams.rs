//! How the flawed store keeps fixed streams.

use std::sync::Arc;

use mainstem::{
    Appended, Event, ExpectedVersion, Result, StreamPlace,
    backend::{AppendRequest, LoadStreamAnswer, LoadStreamRequest, Order},
};

use super::{
    flawed::{FlawedStore, Log},
    flaws::Flaw,
};

impl FlawedStore {
    fn is_of(&self, event: &Event, stream: &str) -> bool {
        event.stream().is_some_and(|place| match self.flaw {
            Some(Flaw::CountsVersionsOfTheLog) => true,
            Some(Flaw::IgnoresTheCaseOfStreams) => place.id().eq_ignore_ascii_case(stream),
            _ => place.id() == stream,
        })
    }

    pub(super) fn version(&self, log: &Log, stream: &str) -> u64 {
        log.events.iter().filter(|event| self.is_of(event, stream)).count() as u64
    }

    pub(super) fn judge_stream(&self, log: &Log, request: &AppendRequest) -> Result<()> {
        let Some(stream) = &request.stream else { return Ok(()) };
        let actual = self.version(log, &stream.id);
        let last = log.events.iter().rfind(|event| self.is_of(event, &stream.id));
        match self.flaw {
            Some(Flaw::IgnoresExpectedVersions) => Ok(()),
            Some(Flaw::TakesAHigherVersion) if stream.expected.version() >= Some(actual) => Ok(()),
            Some(Flaw::IgnoresTheEventOfAVersion) if stream.expected.version() == Some(actual) => Ok(()),
            Some(Flaw::TakesAnyForNone) if stream.expected == ExpectedVersion::Any => {
                let mut begun = stream.clone();
                begun.expected = ExpectedVersion::NoStream;
                begun.judge(last)
            }
            _ => stream.judge(last),
        }
    }

    /// Gives the events that were just written their versions.
    pub(super) fn place(&self, log: &mut Log, request: &AppendRequest, appended: Appended) -> Appended {
        let Some(stream) = &request.stream else { return appended };
        let numbered = log.numbered.remove(&request.events[0].id());
        let before = numbered.unwrap_or_else(|| self.version(log, &stream.id));
        for (event, version) in request.events.iter().zip(before + 1..) {
            let written =
                log.events.iter_mut().find(|written| written.id() == event.id()).expect("it was just written");
            *written = written.clone().in_stream(Arc::clone(&stream.id), version);
        }
        appended.in_stream(before + 1)
    }

    pub(super) fn is_in_its_stream(&self, recorded: &Event, request: &AppendRequest) -> bool {
        let expected = request.stream.as_ref().map(|stream| &*stream.id);
        self.has(Flaw::ForgetsTheStreamOfARepeat) || recorded.stream().map(StreamPlace::id) == expected
    }

    pub(super) fn load(&self, request: &LoadStreamRequest) -> LoadStreamAnswer {
        let log = self.log();
        let mut stream: Vec<&Event> = log.events.iter().filter(|event| self.is_of(event, &request.stream)).collect();
        stream.sort_by_key(|event| event.stream().map(StreamPlace::version));
        let last = stream.last().copied();
        let version = last.and_then(Event::stream).map_or(0, StreamPlace::version);
        let low = request.after_version.saturating_add(u64::from(!self.has(Flaw::LoadsTheEventAtTheVersion)));
        let high = request.before_version.unwrap_or(u64::MAX);
        stream.retain(|event| event.stream().is_some_and(|place| (low..high).contains(&place.version())));
        let limit = request.limit.map_or(usize::MAX, |limit| usize::try_from(limit).expect("a limit"));
        let newest_first = request.order == Order::NewestFirst;
        if newest_first && !self.has(Flaw::LoadsTheFirstBackwards) {
            stream.reverse();
        }
        stream.truncate(limit);
        if newest_first && self.has(Flaw::LoadsTheFirstBackwards) {
            stream.reverse();
        }
        LoadStreamAnswer::new(stream.into_iter().cloned().collect(), version).with_last(last.map(Event::id))
    }
}
