//! The bench's orders and their answers: one line of JSON each, alternating.
//!
//! The first line is an [`Opening`]. It and each [`Order`] are answered by `{"Ok": …}` or `{"Err": "why"}`.

use serde::{Deserialize, Serialize};

/// Where the store is. Not in the arguments, which everybody can see.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Opening {
    /// The PostgreSQL server, with the schema of this peer as its search path.
    pub(crate) url: String,
    /// The server of a store that has its own.
    pub(crate) server: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum Order {
    /// Create the tables. Answered by nothing.
    Prepare,
    /// Write the fixture, for a store that the bench cannot fill by SQL. Answered by nothing.
    Fill,
    /// Report what is there: [`Digest`]s of the whole log, and of the boundaries of these books together.
    Look(Vec<String>),
    /// Prepare for rounds of this. Answered by nothing.
    Begin(Row),
    /// Run a round of this many milliseconds. Answered by [`Ran`].
    Run(u64),
    /// Release the row's connections, and report the events added since the last [`Order::End`], or since the fixture,
    /// in the store's order. Answered by a list of [`Written`].
    End,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Kind {
    /// Each append is about a book that has no events yet, and must be the first.
    Append,
    /// All append to one book: read what is new, append, and start again on a conflict.
    Hot,
    /// One boundary after the other is read.
    Query,
    /// The whole log is read.
    CatchUp,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Row {
    pub(crate) kind: Kind,
    pub(crate) writers: u64,
    /// The number of events in each append.
    pub(crate) events: u64,
    /// Unique among the rows of a run: it is part of the ids of their books.
    pub(crate) number: u64,
    /// What [`Kind::Query`] reads, in this order.
    pub(crate) books: Vec<String>,
}

/// The result of a round.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Ran {
    /// Appends, queries, or events of a catch-up.
    pub(crate) done: u64,
    /// Refusals by the store, each of which was followed by another attempt.
    pub(crate) conflicts: u64,
    pub(crate) micros: u64,
    /// The latency of each append or query, with all its attempts, in µs.
    pub(crate) latencies: Vec<u32>,
    /// Writer and number of the appends that the store acknowledged.
    pub(crate) acknowledged: Vec<(u64, u64)>,
}

/// One event of a run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Written {
    pub(crate) book: String,
    pub(crate) writer: u64,
    pub(crate) number: u64,
    pub(crate) part: u64,
    pub(crate) seen: u64,
}

/// How many events, and the sum of the Adler-32 of each one's identity.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Digest {
    pub(crate) events: u64,
    pub(crate) sum: u64,
}

impl Digest {
    pub(crate) fn add(&mut self, identity: &str) {
        let (mut low, mut high) = (1_u32, 0_u32);
        for byte in identity.bytes() {
            low = (low + u32::from(byte)) % 65_521;
            high = (high + low) % 65_521;
        }
        self.events += 1;
        self.sum += u64::from(high << 16 | low);
    }
}
