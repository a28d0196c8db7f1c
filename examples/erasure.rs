//! Personal data in a log that nobody can delete from: each person has a key, and without it nobody can read their sealed
//! data.
//!
//!     scripts/example erasure

use std::collections::HashMap;

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Generate, Key, Payload},
};
use mainstem::{
    AppendCondition, Consistency, Error, ErrorKind, Event, EventId, EventStore, Filter, NewEvent, PostgresEventStore,
    Result, Router, testing::LocalCluster,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// The content type of a sealed payload.
const SEALED: &str = "application/vnd.example.sealed+json";
const NONCE_LEN: usize = 24;
const PERSON: &str = "person:";

#[tokio::main]
async fn main() -> Result<()> {
    let cluster = LocalCluster::start().await?;
    let router = Router::builder().primary(cluster.primary().url()).connect().await?;
    let store = PostgresEventStore::new(&router);
    store.migrate().await?;
    run(store).await
}

/// The keys, in a table of their own: the only place where data may be deleted, and each deletion must reach every copy of
/// it.
///
/// Always on the primary: a replica shows an erased key for some milliseconds longer.
pub(crate) struct Keys(Router);

/// The keys of some people. Anyone missing was erased, or never had a key.
#[derive(Default)]
pub(crate) struct KeyRing(HashMap<String, XChaCha20Poly1305>);

impl Keys {
    pub(crate) async fn install(router: &Router) -> Result<Self> {
        // An erased person's row stays, without a key, so that they get no new one.
        let sql =
            "CREATE TABLE IF NOT EXISTS public.person_keys (person text PRIMARY KEY, key bytea, erased_at timestamptz)";
        router.client_at(Consistency::Strong).await?.batch_execute(sql).await?;
        Ok(Self(router.clone()))
    }

    /// A person's key, created if there is none.
    async fn of(&self, person: &str) -> Result<XChaCha20Poly1305> {
        let new = Key::<XChaCha20Poly1305>::generate();
        let client = self.0.client_at(Consistency::Strong).await?;
        // A key that is there is not written again, for each version of a row is another copy of the key on disk.
        let sql = "INSERT INTO public.person_keys (person, key) VALUES ($1, $2) ON CONFLICT (person) DO NOTHING";
        client.execute(sql, &[&person, &new.as_slice()]).await?;
        let row = client.query_one("SELECT key FROM public.person_keys WHERE person = $1", &[&person]).await?;
        match row.get::<_, Option<&[u8]>>(0) {
            Some(key) => cipher(key),
            None => Err(Error::application(format!("{person:?} was erased, and gets no new key"))),
        }
    }

    /// The keys of all people that these events are about.
    pub(crate) async fn of_all(&self, events: &[Event]) -> Result<KeyRing> {
        let people: Vec<&str> = events.iter().filter_map(person).collect();
        let sql = "SELECT person, key FROM public.person_keys WHERE person = ANY ($1) AND key IS NOT NULL";
        let rows = self.0.client_at(Consistency::Strong).await?.query(sql, &[&people]).await?;
        let keys = rows.iter().map(|row| Ok((row.get(0), cipher(row.get(1))?)));
        Ok(KeyRing(keys.collect::<Result<_>>()?))
    }

    /// After this, nobody can read what was sealed for this person. Until the key is gone from the disk may take longer: see
    /// [`sweep`](Self::sweep).
    pub(crate) async fn erase(&self, person: &str) -> Result<()> {
        let client = self.0.client_at(Consistency::Strong).await?;
        // Someone who had no key yet gets none, either: the key may just be being created, or was lost in a restore.
        let sql = "INSERT INTO public.person_keys (person, erased_at) VALUES ($1, now()) \
                   ON CONFLICT (person) DO UPDATE SET key = NULL, erased_at = now()";
        client.execute(sql, &[&person]).await?;
        drop(client);
        self.sweep().await
    }

    /// Writes the table anew, without the old versions of its rows. A plain VACUUM would leave their bytes in the free space of
    /// the pages. Run it daily as well: as long as a transaction, a replication slot or a replica with `hot_standby_feedback`
    /// is older than an erasure, the old row stays. While it runs, nobody reads a key.
    pub(crate) async fn sweep(&self) -> Result<()> {
        self.0.client_at(Consistency::Strong).await?.batch_execute("VACUUM FULL public.person_keys").await
    }

    /// An event whose payload only the person's key opens. Its type and its tags stay readable, so `person` is a number or a
    /// random name, never a person's real name.
    pub(crate) async fn seal<T: Serialize>(&self, event_type: &str, person: &str, payload: &T) -> Result<NewEvent> {
        let text = serde_json::to_vec(payload)
            .map_err(|error| Error::new(ErrorKind::InvalidData, "the payload is no JSON").with_source(error))?;
        let (id, nonce) = (EventId::new(), XNonce::generate());
        let bound = bound_to(id, event_type, person);
        let sealed = self.of(person).await?.encrypt(&nonce, Payload { msg: &text, aad: &bound }).map_err(unreadable)?;
        let bytes = [nonce.as_slice(), &sealed].concat();
        Ok(NewEvent::from_payload(event_type, mainstem::Payload::bytes(SEALED, bytes))
            .with_id(id)
            .with_tag(format!("{PERSON}{person}")))
    }
}

impl KeyRing {
    /// The sealed payload; `None` if the person was erased.
    pub(crate) fn open<T: DeserializeOwned>(&self, event: &Event) -> Result<Option<T>> {
        let (Some(person), Some((SEALED, bytes))) = (person(event), event.payload().as_bytes()) else {
            return event.decode().map(Some);
        };
        let Some(key) = self.0.get(person) else { return Ok(None) };
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>().ok_or_else(|| unreadable("it is too short"))?;
        let bound = bound_to(event.id(), event.event_type(), person);
        let text = key.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &bound }).map_err(unreadable)?;
        serde_json::from_slice(&text).map(Some).map_err(unreadable)
    }
}

fn cipher(key: &[u8]) -> Result<XChaCha20Poly1305> {
    XChaCha20Poly1305::new_from_slice(key).map_err(unreadable)
}

/// The data that the sealed text is bound to: copied into another event, it does not open.
fn bound_to(id: EventId, event_type: &str, person: &str) -> Vec<u8> {
    format!("{id}\0{event_type}\0{person}").into_bytes()
}

fn person(event: &Event) -> Option<&str> {
    event.tags().find_map(|tag| tag.strip_prefix(PERSON))
}

fn unreadable(error: impl ToString) -> Error {
    Error::new(ErrorKind::InvalidData, format!("a sealed payload cannot be read: {}", error.to_string()))
}

/// Two people register, and one of them is erased: that person's events stay, but can no longer be read.
pub(crate) async fn run(store: PostgresEventStore) -> Result<()> {
    let keys = Keys::install(store.router()).await?;
    for (person, name) in [("4711", "Ada Lovelace"), ("4712", "Ben Jonson")] {
        let registered = keys.seal("ReaderRegistered", person, &json!({"name": name})).await?;
        // Data that is no secret is not sealed, so rules and counts still work.
        let lent = NewEvent::new("CopyLent", &json!({"copy": 7}))?.with_tag(format!("{PERSON}{person}"));
        store.append([registered, lent], AppendCondition::none()).await?;
    }
    keys.erase("4711").await?;

    let history = store.query(&Filter::any_event()).await?;
    let ring = keys.of_all(&history).await?;
    for event in &history {
        let told = ring.open::<Value>(event)?.map_or_else(|| "erased".to_owned(), |payload| payload.to_string());
        println!("{:>3} {} of {:?}: {told}", event.position(), event.event_type(), person(event));
    }
    Ok(())
}
