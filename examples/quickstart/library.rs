//! A lending library: what happens in it, and what may happen next. Nothing here says which node to ask: that is
//! decided by the scope in which a command or a query runs.

use mainstem::{Error, EventStore, Filter, History, NewEvent, PostgresEventStore};
use serde::{Deserialize, Serialize};
use serde_json::json;

const REGISTERED: &str = "CopyRegistered";
const LENT: &str = "CopyLent";
const RETURNED: &str = "CopyReturned";

#[derive(Deserialize, Serialize)]
struct Loan {
    copy: String,
    reader: String,
}

pub(crate) struct Library {
    pub(crate) store: PostgresEventStore,
}

/// An event that the rules allow, and the events that it is based on.
pub(crate) struct Decision {
    event: NewEvent,
    history: History,
}

/// What a command wrote.
pub(crate) struct Done {
    pub(crate) position: u64,
    pub(crate) history: History,
}

/// Why a command wrote nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0}")]
    Rule(String),
    /// A conflict, for instance: somebody else was faster.
    #[error(transparent)]
    Store(#[from] Error),
}

impl Library {
    pub(crate) async fn register(&self, copy: &str) -> Result<Done, Refusal> {
        let history = self.store.query(&about(copy)?).await?;
        if !history.is_empty() {
            return Err(Refusal::Rule(format!("{copy} is registered already")));
        }
        let event = NewEvent::new(REGISTERED, &json!({"copy": copy}))?.with_tag(format!("copy:{copy}"));
        self.carry_out(Decision { event, history }).await
    }

    pub(crate) async fn lend(&self, copy: &str, reader: &str) -> Result<Done, Refusal> {
        let decision = self.decide_to_lend(copy, reader).await?;
        self.carry_out(decision).await
    }

    /// The rule is about a copy *and* a reader. The decision is based on the events of both, and holds as long as
    /// neither has a new event.
    pub(crate) async fn decide_to_lend(&self, copy: &str, reader: &str) -> Result<Decision, Refusal> {
        let of_both = Filter::matching()
            .all_tags_of([format!("copy:{copy}")])
            .or_matching()
            .any_type_of([LENT, RETURNED])
            .and_all_tags_of([format!("reader:{reader}")])
            .finish()?;
        let history = self.store.query(&of_both).await?;
        let loans = loans(&history)?;
        if !history.iter().any(|event| event.event_type() == REGISTERED) {
            Err(Refusal::Rule(format!("{copy} is not registered")))
        } else if let Some(loan) = loans.iter().find(|loan| loan.copy == copy) {
            Err(Refusal::Rule(format!("{copy} is lent to {}", loan.reader)))
        } else if let Some(loan) = loans.iter().find(|loan| loan.reader == reader) {
            Err(Refusal::Rule(format!("{reader} has {}, and one copy is the limit", loan.copy)))
        } else {
            Ok(Decision { event: loan_event(LENT, copy, reader)?, history })
        }
    }

    /// Writes the event, unless an event that the decision should have seen was appended in the meantime.
    pub(crate) async fn carry_out(&self, Decision { event, history }: Decision) -> Result<Done, Refusal> {
        let appended = self.store.append([event], history.unchanged()).await?;
        Ok(Done { position: appended.first_position(), history })
    }

    pub(crate) async fn take_back(&self, copy: &str) -> Result<Done, Refusal> {
        let history = self.store.query(&about(copy)?).await?;
        match loans(&history)?.pop() {
            Some(loan) => {
                let event = loan_event(RETURNED, copy, &loan.reader)?;
                self.carry_out(Decision { event, history }).await
            }
            None => Err(Refusal::Rule(format!("{copy} is not lent"))),
        }
    }

    /// A query: who has the copy, if anybody, and the events that show it.
    pub(crate) async fn holder(&self, copy: &str) -> Result<(Option<String>, History), Error> {
        let history = self.store.query(&about(copy)?).await?;
        Ok((loans(&history)?.pop().map(|loan| loan.reader), history))
    }
}

/// The loans that have not ended.
fn loans(history: &History) -> Result<Vec<Loan>, Error> {
    let mut loans: Vec<Loan> = Vec::new();
    for event in history {
        match event.event_type() {
            LENT => loans.push(event.decode()?),
            RETURNED => {
                let ended: Loan = event.decode()?;
                loans.retain(|loan| loan.copy != ended.copy);
            }
            _ => {}
        }
    }
    Ok(loans)
}

fn loan_event(event_type: &str, copy: &str, reader: &str) -> Result<NewEvent, Error> {
    let loan = Loan { copy: copy.to_owned(), reader: reader.to_owned() };
    Ok(NewEvent::new(event_type, &loan)?.with_tags([format!("copy:{copy}"), format!("reader:{reader}")]))
}

fn about(copy: &str) -> Result<Filter, Error> {
    Filter::matching().all_tags_of([format!("copy:{copy}")]).finish()
}
