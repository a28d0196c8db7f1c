//! The lending library over HTTP: a browser reads its own write, through another instance, from a lagging replica.
//!
//!     cargo run --example http --features migrations,testing,tower
//!     cargo run --example http --features migrations,testing,tower -- --listen 127.0.0.1:8080
//!
//! | file | what it holds |
//! |---|---|
//! | `app` | the routes, and the layers that say where they read |
//! | `browser` | a client with cookies that asks one instance after the other |

pub(crate) mod app;
pub(crate) mod browser;

use std::{net::SocketAddr, time::Duration};

use mainstem::{PostgresEventStore, Router, TokenKey, testing::LocalCluster};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use app::app;
use browser::Browser;

pub(crate) type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const HELP: &str = "\
http                        two instances and a browser
http --listen ADDRESS       one instance on a cluster of its own, until it is ended
";

/// How far the replica lags.
const DELAY: Duration = Duration::from_millis(200);

#[tokio::main]
async fn main() -> Result {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let address = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => None,
        ["--listen", address] => Some(address.parse::<SocketAddr>()?),
        _ => return Err(HELP.into()),
    };
    let cluster = LocalCluster::builder().replicas(1).start().await?;
    let stores = [store(&cluster).await?, store(&cluster).await?];
    stores[0].migrate().await?;
    cluster.wait_until_caught_up().await?;
    cluster.replica(0).delay_replay(DELAY).await?;
    // Derived from a secret that all instances share. This one is in a public repository.
    let key = TokenKey::new("a secret of the example, known to all")?;
    if let Some(address) = address {
        let listener = TcpListener::bind(address).await?;
        println!("http://{}/copies", listener.local_addr()?);
        let ends = async { drop(tokio::signal::ctrl_c().await) };
        let [store, _] = stores;
        return Ok(axum::serve(listener, app(store, key)).with_graceful_shutdown(ends).await?);
    }
    let mut instances = Vec::new();
    for store in stores {
        instances.push(serve(app(store, key.clone())).await?);
    }
    tour(&instances).await
}

/// Each instance has a store of its own, as if it were a separate process.
async fn store(cluster: &LocalCluster) -> Result<PostgresEventStore> {
    let builder = Router::builder().primary(cluster.primary().url()).replica(cluster.replica(0).url());
    // Reads wait for the replica instead of going to the primary.
    let router = builder.replay_wait(Duration::from_secs(5)).connect().await?;
    Ok(PostgresEventStore::new(&router))
}

/// Starts an instance and returns its address. It lives as long as the runtime.
pub(crate) async fn serve(app: axum::Router) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

pub(crate) async fn tour(instances: &[SocketAddr]) -> Result {
    let ada = Browser::new(instances.iter().copied());
    done(&ada, "/copies", json!({"copy": 1, "title": "Logic"})).await?;
    done(&ada, "/readers", json!({"reader": 1, "name": "Ada"})).await?;
    done(&ada, "/loans", json!({"copy": 1, "reader": 1})).await?;

    // Without her cookie the answer may be current or a moment old.
    let another = Browser::new(instances.iter().copied()).get("/readers/1/loans").await?;
    told("GET /readers/1/loans by somebody else", &another);
    // With her cookie, her loans are as she left them, through any instance: each request goes to the next one.
    let own = ada.get("/readers/1/loans").await?;
    told("GET /readers/1/loans", &own);
    check("what Ada has written", &own.body["copies"], &json!([1]))?;
    check("from a replica", &own.header("served-by").starts_with("replica"), &true)?;
    // The desk always reads the current state.
    let desk = Browser::new(instances.iter().copied()).get("/desk/readers/1/loans").await?;
    told("GET /desk/readers/1/loans", &desk);
    check("what is known at the desk", &desk.body["copies"], &json!([1]))?;
    check("from the primary", &desk.header("served-by").starts_with("primary"), &true)?;

    let refused = ada.post("/copies/removed", &json!({"copy": 1})).await?;
    check("a refusal", &refused.status.as_u16(), &422)?;
    check("its reason", &refused.body, &json!({"refused": "the copy is lent out"}))
}

async fn done(browser: &Browser, path: &str, body: Value) -> Result {
    let answer = browser.post(path, &body).await?;
    println!("POST {path} {body}: {} {}", answer.status, answer.body);
    check(path, &answer.status.as_u16(), &200)
}

fn told(request: &str, answer: &browser::Answer) {
    println!("{request}: {} by the {}", answer.body, answer.header("served-by"));
}

fn check<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, and not {expected:?}").into()) }
}
