//! Metrics: each outcome is recorded as what it is, the node is the one that served, and the list matches what is
//! recorded.

mod gone;
mod outcomes;
mod overtaken;
mod whole;

use std::{future::Future, time::Duration};

use mainstem::{Command, Decision, Error, ErrorKind, Event, Filter, Projection, Result};
use tokio::time::timeout;

use crate::support::event;

const HANG: Duration = Duration::from_secs(30);
const MS: Duration = Duration::from_millis(1);

/// Whoever calls gives up after a while.
async fn given_up<T>(call: impl Future<Output = T>) {
    assert!(timeout(50 * MS, call).await.is_err(), "it was to wait");
}

/// How often something was taken.
#[derive(Default)]
struct Taken(u64);

impl Projection for Taken {
    fn filter(&self) -> Result<Filter> {
        Filter::matching().any_type_of(["Taken"]).finish()
    }

    fn apply(&mut self, _: &Event) -> Result<()> {
        self.0 += 1;
        Ok(())
    }
}

/// What there is to decide about it.
enum Take {
    Always,
    Never,
    IfNobodyHas,
    Badly,
}

impl Command for Take {
    type Model = Taken;
    type Refusal = String;

    fn model(&self) -> Taken {
        Taken::default()
    }

    fn decide(&self, taken: &Taken) -> Result<Decision<String>> {
        match self {
            Self::Never => Ok(Decision::refuse("never".to_owned())),
            Self::IfNobodyHas if taken.0 > 0 => Ok(Decision::nothing()),
            Self::Badly => Err(Error::new(ErrorKind::Database, "it cannot be decided")),
            Self::Always | Self::IfNobodyHas => Ok(Decision::append([event("Taken", serde_json::json!({}))])),
        }
    }
}
