//! The main loop of a process that drives one store: it receives orders and runs rounds.

use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Stdout},
    task::JoinSet,
};

use super::{
    Client, Digest, Draft, Kind, Opening, Order, Outcome, Ran, Recorded, Row, Store, Written, chain::chain, event::Made,
};

/// Serves until the input ends.
pub(crate) async fn serve<S: Store>() -> Outcome {
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    let mut output = tokio::io::stdout();
    let first = input.next_line().await?.ok_or("this program is started by `cargo compare peers` only")?;
    let opening: Opening = serde_json::from_str(&first)?;
    let store = match S::open(&opening).await {
        Ok(store) => store,
        Err(error) => return answer::<()>(&mut output, Err(error)).await,
    };
    answer(&mut output, Ok(())).await?;
    let mut worker = Worker { store, crew: None, place: None, number: 0 };
    while let Some(line) = input.next_line().await? {
        match serde_json::from_str(&line)? {
            Order::Prepare => answer(&mut output, worker.store.prepare().await).await?,
            Order::Fill => answer(&mut output, worker.store.fill().await).await?,
            Order::Look(books) => answer(&mut output, worker.look(&books).await).await?,
            Order::Begin(row) => answer(&mut output, worker.begin(row).await).await?,
            Order::Run(millis) => answer(&mut output, worker.run(Duration::from_millis(millis)).await).await?,
            Order::End => answer(&mut output, worker.end().await).await?,
        }
    }
    Ok(())
}

async fn answer<T: Serialize>(output: &mut Stdout, outcome: Outcome<T>) -> Outcome {
    let told = outcome.map_err(|error| chain(&*error));
    output.write_all((serde_json::to_string(&told)? + "\n").as_bytes()).await?;
    Ok(output.flush().await?)
}

struct Worker<S: Store> {
    store: S,
    crew: Option<Crew<S::Client>>,
    /// The place up to which the oracle has looked.
    place: Option<<S::Client as Client>::Place>,
    /// The number of the next append, of all writers.
    number: u64,
}

struct Crew<C: Client> {
    row: Row,
    members: Vec<Member<C>>,
}

struct Member<C: Client> {
    client: C,
    writer: u64,
    number: u64,
    next_book: usize,
    known: Option<C::Known>,
    seen: u64,
}

impl<S: Store> Worker<S> {
    async fn look(&mut self, books: &[String]) -> Outcome<(Digest, Digest)> {
        let mut client = self.store.clients(1).await?.pop().ok_or("no client")?;
        let (mut all, mut some) = (Digest::default(), Digest::default());
        let fold = |digest: &mut Digest, event: &dyn Recorded| -> Outcome {
            let (event_type, payload) = event.decode()?;
            digest.add(&payload.identity(&event_type));
            Ok(())
        };
        self.place = client.read_all(None, |event| fold(&mut all, &event)).await?;
        for book in books {
            for event in client.read(book, None).await?.0 {
                fold(&mut some, &event)?;
            }
        }
        Ok((all, some))
    }

    async fn begin(&mut self, row: Row) -> Outcome {
        let mut members = Vec::new();
        for (writer, client) in (0..).zip(self.store.clients(row.writers).await?) {
            members.push(Member { client, writer, number: self.number, next_book: 0, known: None, seen: 0 });
        }
        self.crew = Some(Crew { row, members });
        Ok(())
    }

    async fn run(&mut self, span: Duration) -> Outcome<Ran> {
        let crew = self.crew.as_mut().ok_or("a round before its row has begun")?;
        let ran = if crew.row.kind == Kind::CatchUp { crew.catch_up().await? } else { crew.round(span).await? };
        self.number = crew.members.iter().map(|member| member.number).max().unwrap_or_default().max(self.number);
        Ok(ran)
    }

    async fn end(&mut self) -> Outcome<Vec<Written>> {
        self.crew = None;
        let mut client = self.store.clients(1).await?.pop().ok_or("no client")?;
        let mut found = Vec::new();
        let place = client
            .read_all(self.place.as_ref(), |event| {
                let (_, payload) = event.decode()?;
                let Made { writer, number, part, seen } = payload.made.ok_or("an event that no writer has made")?;
                found.push(Written { book: payload.book, writer, number, part, seen });
                Ok(())
            })
            .await?;
        if place.is_some() {
            self.place = place;
        }
        Ok(found)
    }
}

impl<C: Client> Crew<C> {
    /// One pass over the log.
    async fn catch_up(&mut self) -> Outcome<Ran> {
        let member = self.members.first_mut().ok_or("no client")?;
        let (start, mut done) = (Instant::now(), 0);
        let count = |event: C::Event| {
            std::hint::black_box(&event);
            done += 1;
            Ok(())
        };
        member.client.read_all(None, count).await?;
        let micros = u64::try_from(start.elapsed().as_micros())?;
        Ok(Ran { done, micros, ..Ran::default() })
    }

    /// All members at once; what is in flight at the end is waited for, and counts.
    async fn round(&mut self, span: Duration) -> Outcome<Ran> {
        let start = Instant::now();
        let mut set = JoinSet::new();
        for mut member in self.members.drain(..) {
            let row = self.row.clone();
            set.spawn(async move {
                let mut ran = Ran::default();
                while start.elapsed() < span {
                    let before = Instant::now();
                    member.step(&row, &mut ran).await?;
                    ran.done += 1;
                    ran.latencies.push(u32::try_from(before.elapsed().as_micros()).unwrap_or(u32::MAX));
                }
                Outcome::Ok((member, ran))
            });
        }
        let mut whole = Ran::default();
        while let Some(ended) = set.join_next().await {
            let (member, ran) = ended??;
            self.members.push(member);
            whole.done += ran.done;
            whole.conflicts += ran.conflicts;
            whole.latencies.extend(ran.latencies);
            whole.acknowledged.extend(ran.acknowledged);
        }
        whole.micros = u64::try_from(start.elapsed().as_micros())?;
        Ok(whole)
    }
}

impl<C: Client> Member<C> {
    async fn step(&mut self, row: &Row, ran: &mut Ran) -> Outcome {
        match row.kind {
            Kind::Append => self.append(row, ran).await,
            Kind::Hot => self.hot(row, ran).await,
            Kind::Query => {
                let book = row.books.get(self.next_book % row.books.len()).ok_or("no book to read about")?;
                self.next_book += 1;
                let (events, _) = self.client.read(book, None).await?;
                if events.is_empty() { Err(format!("no event of {book}").into()) } else { Ok(()) }
            }
            Kind::CatchUp => Err("a catch-up is one pass, not steps".into()),
        }
    }

    async fn append(&mut self, row: &Row, ran: &mut Ran) -> Outcome {
        self.number += 1;
        let book = fresh(row.number, self.writer, self.number);
        while !self.client.append(&book, None, self.drafts(row, &book, 0)).await? {
            ran.conflicts += 1;
        }
        ran.acknowledged.push((self.writer, self.number));
        Ok(())
    }

    async fn hot(&mut self, row: &Row, ran: &mut Ran) -> Outcome {
        self.number += 1;
        let book = fresh(row.number, u64::MAX, 0);
        loop {
            let (news, known) = self.client.read(&book, self.known.as_ref()).await?;
            self.seen += news.len() as u64;
            // Without an event there may be nothing to base a decision on, and the guard is that there still is none.
            let known = self.known.insert(known);
            let known = if self.seen == 0 { None } else { Some(known.clone()) };
            if self.client.append(&book, known.as_ref(), self.drafts(row, &book, self.seen)).await? {
                break;
            }
            ran.conflicts += 1;
        }
        ran.acknowledged.push((self.writer, self.number));
        Ok(())
    }

    fn drafts(&self, row: &Row, book: &str, seen: u64) -> Vec<Draft> {
        let (writer, number) = (self.writer, self.number);
        (0..row.events).map(|part| Draft::new(book, Made { writer, number, part, seen })).collect()
    }
}

/// A book without events. Its ids have no order that an index could profit from.
fn fresh(row: u64, writer: u64, number: u64) -> String {
    let mut state = [row, writer, number].into_iter().fold(0, |state, part| mix(state ^ part));
    let mut next = || {
        state = mix(state);
        state
    };
    let (high, low) = (next() & !0xf000 | 0x4000, next() & (u64::MAX >> 2) | 1 << 63);
    let (first, second, third) = (high >> 32, high >> 16 & 0xffff, high & 0xffff);
    format!("{first:08x}-{second:04x}-{third:04x}-{:04x}-{:012x}", low >> 48, low & (u64::MAX >> 16))
}

/// SplitMix64.
fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}
