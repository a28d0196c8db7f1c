//! Mainstem's own side: its public API, in its own process like each peer.

use mainstem::{AppendCondition, Event, EventStore, Filter, Mark, NewEvent, PostgresEventStore};

use super::driver::{Client, Draft, Opening, Outcome, Payload, Recorded, Store, tag};
use crate::guarded;

pub(super) struct Ours {
    url: String,
}

pub(super) struct OurClient(PostgresEventStore);

impl Store for Ours {
    type Client = OurClient;

    async fn open(opening: &Opening) -> Outcome<Self> {
        Ok(Self { url: opening.url.clone() })
    }

    /// Its tables are the fixture's.
    async fn prepare(&self) -> Outcome {
        Ok(())
    }

    /// One store with a pool of this many connections, as in an application.
    async fn clients(&self, count: u64) -> Outcome<Vec<OurClient>> {
        let store = guarded::store(&self.url, u32::try_from(count)?).await?;
        Ok((0..count).map(|_| OurClient(store.clone())).collect())
    }
}

fn boundary(book: &str) -> Outcome<Filter> {
    Ok(Filter::matching().all_tags_of([tag(book)]).finish()?)
}

impl Client for OurClient {
    type Known = Mark;
    type Place = u64;
    type Event = Event;

    async fn read(&mut self, book: &str, known: Option<&Mark>) -> Outcome<(Vec<Event>, Mark)> {
        let filter = boundary(book)?;
        let history = match known {
            None => self.0.query(&filter).await?,
            Some(mark) => {
                let history = self.0.query(&filter.after_position(mark.position())).await?;
                let head = history.head().ok_or("the log is empty")?;
                return Ok((history.into_iter().collect(), head));
            }
        };
        let head = history.head().ok_or("the log is empty")?;
        Ok((history.into_iter().collect(), head))
    }

    async fn append(&mut self, book: &str, known: Option<&Mark>, drafts: Vec<Draft>) -> Outcome<bool> {
        let mut events = Vec::with_capacity(drafts.len());
        for draft in &drafts {
            events.push(NewEvent::new(draft.event_type, &draft.payload)?.with_tag(tag(book)));
        }
        let condition = AppendCondition::fail_if_events_match(boundary(book)?);
        let condition = match known {
            Some(mark) => condition.after(*mark),
            None => condition,
        };
        match self.0.append(events, condition).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn read_all(
        &mut self,
        behind: Option<&u64>,
        mut each: impl FnMut(Event) -> Outcome + Send,
    ) -> Outcome<Option<u64>> {
        let mut stream = self.0.query_stream(&Filter::any_event().after_position(behind.copied().unwrap_or_default()));
        let mut last = None;
        while let Some(event) = stream.next().await {
            let event = event?;
            last = Some(event.position());
            each(event)?;
        }
        stream.end().ok_or("the stream ended before its end")?;
        Ok(last)
    }
}

impl Recorded for Event {
    fn decode(&self) -> Outcome<(String, Payload)> {
        Ok((self.event_type().to_owned(), Self::decode(self)?))
    }
}
