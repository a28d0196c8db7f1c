//! The page of the lending library: over real HTTP, on real replicas whose replay is paused, and in Chromium where
//! there is one.

mod client;
mod hostile;
mod in_chromium;
mod over_http;
mod webdriver;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use mainstem::testing::LocalCluster;
use tokio::net::TcpListener;

use self::example::{
    app::{Library, app},
    nodes::{Nodes, Replay},
};
use crate::support::started;

#[path = "../../examples/library_web/main.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::duplicate_mod,
    reason = "it is a program of its own, with the domain of another one that is tested here"
)]
mod example;

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(60);

/// Serves a page for as long as the test's runtime lives, and says where.
async fn serve(library: &Arc<Library>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, app) = (listener.local_addr().unwrap(), app(library));
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// The page on a cluster of its own.
struct Site {
    library: Arc<Library>,
    address: SocketAddr,
}

impl Site {
    async fn open() -> Self {
        let cluster = started(LocalCluster::builder().replicas(2)).await;
        let library = Library::open(Nodes::own(cluster)).await.unwrap();
        let address = serve(&library).await;
        Self { library, address }
    }

    /// The names of the replicas.
    async fn replicas(&self) -> Vec<String> {
        self.library.nodes.replays().await.into_iter().map(|(name, _)| name).collect()
    }

    async fn hold(&self, replicas: &[String]) {
        for replica in replicas {
            self.library.nodes.set_replay(replica, Replay::Held).await.unwrap();
        }
    }

    async fn let_go(&self, replicas: &[String]) {
        for replica in replicas {
            self.library.nodes.set_replay(replica, Replay::Delayed(Duration::ZERO)).await.unwrap();
        }
    }
}
