//! The lending library as a web page: what the primary decides, what a replica shows, and how far behind the replica is.
//!
//!     scripts/example library_web
//!     scripts/example library_web --listen 127.0.0.1:8080
//!
//! It starts a primary with two replicas, or uses a running cluster: MAINSTEM_PRIMARY_URL, and MAINSTEM_REPLICA_URLS separated by
//! commas. On a running cluster it writes only to the schema `mainstem_library_web`, and replay can be paused, but not delayed.
//!
//! | file | what it holds |
//! |---|---|
//! | `nodes` | the servers, and how the page controls their replay |
//! | `shelf` | the read model, in tables on the primary |
//! | `freshness` | how fresh a look at the read model has to be |
//! | `desk` | the commands; each waits until the read model includes it |
//! | `journal` | what was done, by whom, and how long it took |
//! | `app` | the routes, and the layers around them |
//! | `page` | the HTML; `page.css` and `page.js` are beside it |
//!
//! The commands and events are those of `examples/library`.

pub(crate) mod app;
#[path = "../library/commands.rs"]
#[allow(dead_code, reason = "nobody leaves this library, and no book does")]
mod commands;
mod desk;
#[path = "../library/events.rs"]
mod events;
mod freshness;
mod journal;
pub(crate) mod nodes;
mod page;
mod shelf;
#[path = "../library/state.rs"]
mod state;

use std::{net::SocketAddr, time::Duration};

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use app::{Library, app};
use nodes::Nodes;

pub(crate) type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const HELP: &str = "\
library_web                       the page, on a free port of 127.0.0.1
library_web --listen ADDRESS      the page, at this address
";

/// How long requests in flight may take when the program ends.
const END: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let address: SocketAddr = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => ([127, 0, 0, 1], 0).into(),
        ["--listen", address] => address.parse()?,
        _ => return Err(HELP.into()),
    };
    let library = Library::open(Nodes::find().await?).await?;
    let listener = TcpListener::bind(address).await?;
    println!("the page is at http://{} until Ctrl-C", listener.local_addr()?);
    let mut terminated = signal(SignalKind::terminate())?;
    let end = async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminated.recv() => {}
        }
    };
    tokio::select! {
        served = axum::serve(listener, app(&library)).into_future() => served?,
        () = end => {}
    }
    timeout(END, library.close()).await.map_err(|_| format!("the end took longer than {END:?}"))?
}
