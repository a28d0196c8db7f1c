//! A program whose traces, metrics and logs can be observed:
//!
//! ```text
//! cargo run -p mainstem-observability --bin observability [SECONDS]
//! ```
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `MAINSTEM_URL` | the nodes of a running cluster, in one URL; see `RouterBuilder::from_env`. Everything is written to a separate schema, `mainstem_observability` | a cluster of its own |
//! | `METRICS_ADDRESS` | where Prometheus finds the metrics, at `/metrics` | 127.0.0.1:9464 |
//! | `OTEL_EXPORTER_OTLP_ENDPOINT`, … | a collector | none |
//! | `RUST_LOG` | what is written to standard output | info |

use std::{env, process::ExitCode, time::Duration};

use mainstem::{PostgresEventStore, Router, RouterBuilder, testing::LocalCluster};
use observability::{Failure, export::Exports, shop};
use tokio::signal;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("observability: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let duration = env::args().nth(1).map(|seconds| seconds.parse()).transpose()?.map(Duration::from_secs_f64);
    let page = env::var("METRICS_ADDRESS").unwrap_or_else(|_| "127.0.0.1:9464".to_owned()).parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let exports = {
        let _within = runtime.enter();
        Exports::install(page)?
    };
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = serve(duration) => outcome,
            _ = signal::ctrl_c() => Ok(()),
        }
    });
    // The last spans are of what has just ended.
    let sent = exports.shut_down();
    outcome.and(sent)
}

async fn serve(duration: Option<Duration>) -> Result<(), Failure> {
    if env::var_os("MAINSTEM_URL").is_some() {
        return open(&RouterBuilder::from_env()?.connect().await?, duration).await;
    }
    let cluster = LocalCluster::builder().replicas(1).start().await?;
    let replica = cluster.replica(0).url();
    let router = Router::builder().primary(cluster.primary().url()).replica(replica).connect().await?;
    open(&router, duration).await
}

async fn open(router: &Router, duration: Option<Duration>) -> Result<(), Failure> {
    let store = PostgresEventStore::with_name(router, shop::log()?);
    store.migrate().await?;
    tracing::info!("the shop is open");
    shop::run(router, &store, duration).await?;
    store.close().await;
    Ok(())
}
