//! How fresh a look at the read model must be: the user's choice, and the scope it stands for.

use std::time::{Duration, Instant};

use mainstem::{Consistency, ErrorKind, Result, Role, Router, Scope, current_session};
use serde::Deserialize;

use super::shelf::Shown;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Freshness {
    /// Whatever a replica shows.
    #[default]
    Eventual,
    /// Everything older than this number of seconds.
    Bounded,
    /// Everything that this browser has written, by the token in its cookie.
    Own,
    /// Everything.
    Strong,
}

impl Freshness {
    pub(crate) const ALL: [Self; 4] = [Self::Eventual, Self::Bounded, Self::Own, Self::Strong];

    /// Its name in the page's address.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Eventual => "eventual",
            Self::Bounded => "bounded",
            Self::Own => "own",
            Self::Strong => "strong",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Eventual => "Eventual:",
            Self::Bounded => "Bounded:",
            Self::Own => "Read your writes:",
            Self::Strong => "Strong:",
        }
    }

    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Eventual => "whatever a replica shows",
            Self::Bounded => "all that was written longer ago than the bound",
            Self::Own => "what this browser has written, by its cookie",
            Self::Strong => "all of it, from the primary",
        }
    }

    /// The scope of a look. Only `Own` runs within the request's session; otherwise every level would show the browser's own
    /// writes.
    fn scope(self, bound: Duration) -> Scope {
        match self {
            Self::Eventual => Scope::new().with_consistency(Consistency::Eventual),
            Self::Bounded => Scope::new().with_consistency(Consistency::Bounded(bound)),
            Self::Own => Scope::current().with_consistency(Consistency::Eventual),
            Self::Strong => Scope::new().with_consistency(Consistency::Strong),
        }
    }
}

/// What a look showed, and who served it.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) shown: Shown,
    pub(crate) node: String,
    pub(crate) role: Role,
    pub(crate) took: Duration,
}

impl Look {
    pub(crate) async fn take(router: &Router, freshness: Freshness, bound: Duration) -> Result<Self> {
        let start = Instant::now();
        let read = freshness.scope(bound).run(async {
            let client = router.client().await?;
            let shown = Shown::read(&client).await?;
            Ok(Self { shown, node: client.node().to_owned(), role: client.role(), took: start.elapsed() })
        });
        read.await.inspect_err(|error: &mainstem::Error| {
            // The log that the browser's token refers to is gone. The browser gets this error once, and its session starts
            // afresh.
            if matches!(error.kind(), ErrorKind::LogDiverged | ErrorKind::Unproven) {
                current_session().inspect(mainstem::Session::forget);
            }
        })
    }
}
