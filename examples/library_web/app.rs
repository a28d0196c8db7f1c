//! The routes and the layers around them: a cookie puts each request in its browser's session; a `POST` is strong.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Form, Router,
    extract::{Query, State},
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
    },
    middleware::map_response,
    response::{Html, Redirect, Response},
    routing::{get, post},
};
use mainstem::{
    Command, Consistency, LogName, PostgresEventStore, ReadModels, Role, TokenKey,
    http::{ConsistencyLayer, TokenCookie, TokenLayer},
};
use serde::Deserialize;

use super::{
    Result,
    commands::{LendCopy, Refusal, ReturnCopy},
    desk::Desk,
    freshness::{Freshness, Look},
    journal::{End, Entry},
    nodes::{MAX_DELAY, Nodes, Replay},
    page::{self, Page},
    shelf::{SCHEMA, Shelf, Shown},
};

/// How long to wait for the tables of the log and of the read model, also on the replicas.
const START: Duration = Duration::from_secs(60);
/// The longest title or name, in characters.
const MOST_CHARACTERS: usize = 200;

const TITLES: [&str; 6] = ["Emma", "Logic", "Middlemarch", "Persuasion", "Poems", "Walden"];
const NAMES: [&str; 4] = ["Ada", "Emmy", "Grace", "Hedy"];

/// Everything that the page needs.
pub(crate) struct Library {
    pub(crate) store: PostgresEventStore,
    pub(crate) nodes: Nodes,
    desk: Desk,
    key: TokenKey,
}

impl Library {
    /// Creates the tables, starts the read model, and puts some books on the shelf.
    pub(crate) async fn open(nodes: Nodes) -> Result<Arc<Self>> {
        let router = nodes.router().await?;
        let store = PostgresEventStore::with_name(&router, LogName::new(SCHEMA, "events")?);
        store.migrate().timeout(START).await?;
        // The read model reads from the primary, where it writes: otherwise a paused replica would stop it, too.
        let read_models = ReadModels::builder(&store).consistency(Consistency::Strong).with(Shelf)?.start()?;
        let desk = Desk::new(&store, read_models);
        desk.furnish(&TITLES, &NAMES).await?;
        nodes.wait_until_caught_up().await?;
        // Derived from a secret that all instances share. This one is in a public repository.
        let key = TokenKey::new("a secret of the example, known to all")?;
        Ok(Arc::new(Self { store, nodes, desk, key }))
    }

    pub(crate) async fn close(&self) -> Result {
        self.nodes.release().await?;
        self.store.close().await;
        Ok(())
    }

    async fn look(&self, freshness: Freshness, view: &View) -> mainstem::Result<Look> {
        Look::take(self.store.router(), freshness, Duration::from_secs(view.bound)).await
    }

    /// The current state, for the descriptions of actions.
    async fn shown(&self) -> Shown {
        self.look(Freshness::Strong, &View::default()).await.map(|look| look.shown).unwrap_or_default()
    }
}

pub(crate) fn app(library: &Arc<Library>) -> Router {
    // This example is served without TLS. A real site has `https://`, and leaves `without_secure` out.
    let cookie = TokenCookie::signed_by(library.key.clone()).without_secure();
    Router::new()
        .route("/", get(show))
        .route("/borrow", post(borrow))
        .route("/return", post(give_back))
        .route("/race", post(race))
        .route("/copies", post(add_copy))
        .route("/readers", post(register_reader))
        .route("/replay", post(set_replay))
        .route("/page.css", get(([(CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("page.css"))))
        .route("/page.js", get(([(CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("page.js"))))
        .layer(ConsistencyLayer::by_method())
        .layer(TokenLayer::new(cookie))
        .layer(map_response(harden))
        .with_state(Arc::clone(library))
}

/// Titles and names are escaped. If one should get through nevertheless, the browser still runs no script but ours.
async fn harden(mut response: Response) -> Response {
    let policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; form-action 'self'; \
                  base-uri 'none'; frame-ancestors 'none'";
    let headers: [(HeaderName, &str); 3] =
        [(CONTENT_SECURITY_POLICY, policy), (X_CONTENT_TYPE_OPTIONS, "nosniff"), (REFERRER_POLICY, "no-referrer")];
    response.headers_mut().extend(headers.map(|(name, value)| (name, HeaderValue::from_static(value))));
    response
}

/// What the page shows. It is part of the address, so the page works without scripts and can be shared as a link.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default)]
pub(crate) struct View {
    pub(crate) read: Freshness,
    /// The limit of a bounded read, in seconds.
    pub(crate) bound: u64,
    /// The reader and the copy of the last command.
    pub(crate) reader: u32,
    pub(crate) copy: u32,
    /// The action whose outcome is shown on top.
    pub(crate) done: u64,
}

impl Default for View {
    fn default() -> Self {
        Self { read: Freshness::default(), bound: 2, reader: 1, copy: 1, done: 0 }
    }
}

impl View {
    pub(crate) fn query(&self) -> String {
        let Self { read, bound, reader, copy, done } = self;
        format!("read={}&bound={bound}&reader={reader}&copy={copy}&done={done}", read.name())
    }

    /// The redirect after an action, so that a reload does not repeat the action.
    fn after(self, action: u64) -> Redirect {
        Redirect::to(&format!("/?{}", Self { done: action, ..self }.query()))
    }
}

async fn show(State(library): State<Arc<Library>>, Query(view): Query<View>) -> Html<String> {
    let view = View { bound: view.bound.clamp(1, 60), ..view };
    // The current state, to compare with what the user has asked to see.
    let desk = library.look(Freshness::Strong, &view).await;
    let room = library.look(view.read, &view).await;
    let (journal, conflicts) = library.desk.journal.entries();
    let (nodes, replays) = (library.store.router().status().nodes, library.nodes.replays().await);
    let can_delay = library.nodes.can_delay();
    let read_model = library.desk.read_models.progress();
    let page = Page { view, desk, room, journal, conflicts, nodes, replays, can_delay, read_model };
    Html(page::render(&page).into_string())
}

#[derive(Debug, Deserialize)]
struct Loan {
    reader: u32,
    copy: u32,
    #[serde(default)]
    replica_first: bool,
}

async fn borrow(State(library): State<Arc<Library>>, Query(view): Query<View>, Form(loan): Form<Loan>) -> Redirect {
    let command = LendCopy { copy: loan.copy, reader: loan.reader };
    loan.execute(&library, view, "borrows", &command).await
}

async fn give_back(State(library): State<Arc<Library>>, Query(view): Query<View>, Form(loan): Form<Loan>) -> Redirect {
    let command = ReturnCopy { copy: loan.copy, reader: loan.reader };
    loan.execute(&library, view, "returns", &command).await
}

impl Loan {
    async fn execute(
        &self,
        library: &Library,
        view: View,
        verb: &str,
        command: &impl Command<Refusal = Refusal>,
    ) -> Redirect {
        let Self { reader, copy, replica_first } = *self;
        let (shown, action) = (library.shown().await, library.desk.journal.next_action());
        let how = if replica_first { ", decided on what a replica shows" } else { "" };
        let what = format!("{} {verb} “{}”{how}", shown.name(reader), shown.title(copy));
        library.desk.execute(action, command, what, replica_first).await;
        View { reader, copy, ..view }.after(action)
    }
}

#[derive(Debug, Deserialize)]
struct Race {
    reader: u32,
    rival: u32,
    copy: u32,
}

async fn race(State(library): State<Arc<Library>>, Query(view): Query<View>, Form(race): Form<Race>) -> Redirect {
    let Race { reader, rival, copy } = race;
    let (shown, action) = (library.shown().await, library.desk.journal.next_action());
    let readers = [reader, rival];
    let whats = readers.map(|reader| format!("{} borrows “{}”, at once", shown.name(reader), shown.title(copy)));
    library.desk.lend_at_once(action, copy, readers, whats).await;
    View { reader, copy, ..view }.after(action)
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

/// The response to a text that is neither a title nor a name.
type NoName = (StatusCode, String);

impl Named {
    /// The trimmed name, if it is valid. PostgreSQL's texts cannot contain NUL.
    fn check(&self) -> Result<&str, NoName> {
        let name = self.name.trim();
        if name.is_empty() || name.chars().count() > MOST_CHARACTERS || name.chars().any(char::is_control) {
            let message =
                format!("a title or a name has 1 to {MOST_CHARACTERS} characters, none of them a control character");
            return Err((StatusCode::UNPROCESSABLE_ENTITY, message));
        }
        Ok(name)
    }
}

async fn add_copy(
    State(library): State<Arc<Library>>,
    Query(view): Query<View>,
    Form(named): Form<Named>,
) -> Result<Redirect, NoName> {
    let title = named.check()?;
    let action = library.desk.journal.next_action();
    library.desk.add_copy(action, &library.shown().await, title).await;
    Ok(view.after(action))
}

async fn register_reader(
    State(library): State<Arc<Library>>,
    Query(view): Query<View>,
    Form(named): Form<Named>,
) -> Result<Redirect, NoName> {
    let name = named.check()?;
    let action = library.desk.journal.next_action();
    library.desk.register_reader(action, &library.shown().await, name).await;
    Ok(view.after(action))
}

#[derive(Debug, Deserialize)]
struct SetReplay {
    replica: String,
    #[serde(default)]
    hold: bool,
    /// The slider's value, in seconds.
    #[serde(default)]
    delay: f64,
}

async fn set_replay(
    State(library): State<Arc<Library>>,
    Query(view): Query<View>,
    Form(asked): Form<SetReplay>,
) -> Redirect {
    let SetReplay { replica, hold, delay } = asked;
    let delay = Duration::try_from_secs_f64(delay).unwrap_or_default().min(MAX_DELAY);
    let (replay, what) = match (hold, delay) {
        (true, _) => (Replay::Held, "replay is held".to_owned()),
        (false, Duration::ZERO) => (Replay::Delayed(delay), "replay goes on".to_owned()),
        (false, _) => (Replay::Delayed(delay), format!("replay is delayed by {delay:?}")),
    };
    let start = Instant::now();
    let end = match library.nodes.set_replay(&replica, replay).await {
        Ok(()) => End::Done,
        Err(error) => End::Failed(error.to_string()),
    };
    let action = library.desk.journal.next_action();
    let served_by = format!("{} {replica}", Role::Replica);
    let entry = Entry { action, what, end, served_by, took: start.elapsed(), ..Entry::default() };
    library.desk.journal.add(entry);
    view.after(action)
}
