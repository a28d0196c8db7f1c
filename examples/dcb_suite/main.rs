//! A server for the public test suite of dynamic consistency boundaries, and the checks of the suite's scripts, in Rust.
//!
//!     scripts/example dcb_suite                                    server and checks
//!     scripts/example dcb_suite --listen 127.0.0.1:3000            the server alone, for the scripts themselves
//!     scripts/example dcb_suite --against 127.0.0.1:3000           the checks alone, of any server with this contract
//!
//! The suite is in `libraries/benchmark` of the repository `dcb-events/dcb-events.github.io`, and runs in k6:
//!
//!     k6 run dcb-consistency.ts     -e BASE_URI=http://127.0.0.1:3000
//!     k6 run dcb-monotonic.ts       -e BASE_URI=http://127.0.0.1:3000 -e REDIS_DSN=redis://localhost:6379
//!     k6 run dcb-parallel-writes.ts -e BASE_URI=http://127.0.0.1:3000
//!
//! Restart the server for each script: the last one appends the same tags each time, so it fails when it finds them. Expect
//! `checks` at 100 %, and for the last script `dcb_append_error_rate` at 0 %. In the first script, appends fail all the time:
//! its writers conflict on purpose.
//!
//! | file | what it holds |
//! |---|---|
//! | `app` | the contract over a store |
//! | `checks` | the checks of the three scripts |
//! | `fixture` | what they query and append |
//! | `client` | their HTTP adapter |
//! | `flaw` | servers that must not pass: `--break NAME` |
//!
//! It starts a cluster, or uses the one of MAINSTEM_PRIMARY_URL, and there only the schema `mainstem_dcb_suite`. The last line is
//! `dcb_suite: broken=N checks=N appends=N refused=N seed=N`. The status is 0 if nothing is broken and each script has checked
//! something.

pub(crate) mod app;
#[path = "../http/browser.rs"]
#[allow(dead_code, reason = "here nobody has cookies")]
pub(crate) mod browser;
pub(crate) mod checks;
pub(crate) mod client;
pub(crate) mod fixture;
pub(crate) mod flaw;

use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mainstem::{LogName, PostgresEventStore, Router, testing::LocalCluster};
use tokio::net::TcpListener;

use app::app;
use checks::{Seen, Size};
use client::Client;
use flaw::Flaw;

pub(crate) type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const HELP: &str = "\
dcb_suite                       server and checks
dcb_suite --listen ADDRESS      the server, until it is ended
dcb_suite --against ADDRESS     the checks of a server that runs
  --seconds N                   of each script that are spent appending                    (default: 10)
  --events N                    so many events are verified                                (default: 1000)
  --seed N                      what is asked and appended                                 (default: the time)
  --break NAME                  a server that must not pass: no-condition, wide-condition, hidden-events
";

const SCHEMA: &str = "mainstem_dcb_suite";

struct Arguments {
    listen: Option<SocketAddr>,
    against: Option<SocketAddr>,
    size: Size,
    flaw: Option<Flaw>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let seed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let size = Size { duration: Duration::from_secs(10), verified: 1000, seed };
        let mut parsed = Self { listen: None, against: None, size, flaw: None };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(HELP);
            match &*word {
                "--listen" => parsed.listen = Some(value()?.parse()?),
                "--against" => parsed.against = Some(value()?.parse()?),
                "--seconds" => parsed.size.duration = Duration::from_secs(value()?.parse()?),
                "--events" => parsed.size.verified = value()?.parse()?,
                "--seed" => parsed.size.seed = value()?.parse()?,
                "--break" => parsed.flaw = Some(Flaw::named(&value()?).ok_or(HELP)?),
                _ => return Err(HELP.into()),
            }
        }
        Ok(parsed)
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let Arguments { listen, against, size, flaw } = Arguments::parse(std::env::args().skip(1))?;
    if let Some(server) = against {
        return judge(server, size).await;
    }
    // The cluster lives as long as this variable.
    let (_cluster, store) = match std::env::var("MAINSTEM_PRIMARY_URL") {
        Ok(url) => (None, open(&url).await?),
        Err(_) => {
            let cluster = LocalCluster::builder().start().await?;
            let store = open(&cluster.primary().url()).await?;
            (Some(cluster), store)
        }
    };
    let listener = TcpListener::bind(listen.unwrap_or_else(|| ([127, 0, 0, 1], 0).into())).await?;
    let address = listener.local_addr()?;
    let server = axum::serve(listener, app(store, flaw));
    if listen.is_some() {
        println!("http://{address} until Ctrl-C");
        tokio::select! {
            served = server.into_future() => served?,
            _ = tokio::signal::ctrl_c() => {}
        }
        return Ok(ExitCode::SUCCESS);
    }
    tokio::spawn(server.into_future());
    judge(address, size).await
}

async fn open(primary: &str) -> Result<PostgresEventStore> {
    let router = Router::builder().primary(primary).connect().await?;
    let store = PostgresEventStore::with_name(&router, LogName::new(SCHEMA, "events")?);
    store.migrate().await?;
    Ok(store)
}

/// Runs all checks, one after the other.
async fn judge(server: SocketAddr, size: Size) -> Result<ExitCode> {
    let client = Arc::new(Client::new(server));
    let scripts = [
        ("dcb-consistency", checks::consistency(&client, size).await?),
        ("dcb-monotonic", checks::monotonic(&client, size).await?),
        ("dcb-parallel-writes", checks::parallel_writes(&client, size).await?),
    ];
    let (mut total, mut idle) = (Seen::default(), false);
    for (script, Seen { appends, refused, checks, broken }) in scripts {
        println!("{script}: broken={} checks={checks} appends={appends} refused={refused}", broken.len());
        broken.iter().take(10).for_each(|broken| println!("    {broken}"));
        idle |= checks == 0;
        total.appends += appends;
        total.refused += refused;
        total.checks += checks;
        total.broken.extend(broken);
    }
    let Seen { appends, refused, checks, broken } = total;
    println!(
        "dcb_suite: broken={} checks={checks} appends={appends} refused={refused} seed={}",
        broken.len(),
        size.seed
    );
    Ok(if broken.is_empty() && !idle { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
