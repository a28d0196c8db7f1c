//! The lending library over HTTP: a browser reads what it has written, through another instance, from a replica that lags.
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

/// So far is the replica behind.
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
    // Of a secret that all instances know. This one is in a public repository.
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

/// A store of its own for each instance, as if each was a process.
async fn store(cluster: &LocalCluster) -> Result<PostgresEventStore> {
    let builder = Router::builder().primary(cluster.primary().url()).replica(cluster.replica(0).url());
    // The replica is waited for rather than the primary asked.
    let router = builder.replay_wait(Duration::from_secs(5)).connect().await?;
    Ok(PostgresEventStore::new(&router))
}

/// Starts an instance, which lives as long as the runtime, and says where.
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

    // Without her cookie it is read as it was a moment ago, or as it is: nobody knows.
    let another = Browser::new(instances.iter().copied()).get("/readers/1/loans").await?;
    told("GET /readers/1/loans by somebody else", &another);
    // With it, as she has left it, from wherever: each request goes to another instance than the one before.
    let own = ada.get("/readers/1/loans").await?;
    told("GET /readers/1/loans", &own);
    check("what Ada has written", &own.body["copies"], &json!([1]))?;
    check("from a replica", &own.header("served-by").starts_with("replica"), &true)?;
    // At the desk it is always read as it is.
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
