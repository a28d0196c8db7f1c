//! For tests: a replicated PostgreSQL cluster, with or without containers, and the rules of event stores (feature
//! `testing`).
//!
//! [`event_store`] contains the rules of [`EventStore`](crate::EventStore) as tests, for any store. The rest of this
//! page is about the cluster, which is for Unix only.
//!
//! [`LocalCluster`] starts a primary with streaming replicas from the PostgreSQL programs on the machine, in a
//! temporary folder, in about a second. These are real servers: they can be stopped, killed, frozen, promoted; a
//! replica's replay can be paused or delayed. A test can therefore show what an application does when a replica lags,
//! or when the primary is lost.
//!
//! One cluster serves all tests of a binary, with a database for each test. A test that damages nodes starts its own
//! cluster.
//!
//! ```no_run
//! use mainstem::testing::{LocalCluster, TestDatabase};
//! use tokio::sync::OnceCell;
//!
//! async fn cluster() -> &'static LocalCluster {
//!     static CLUSTER: OnceCell<LocalCluster> = OnceCell::const_new();
//!     CLUSTER.get_or_init(async || LocalCluster::start().await.expect("a cluster")).await
//! }
//!
//! # const _: &str = stringify!(
//! #[tokio::test]
//! # );
//! async fn a_replica_has_what_was_written() -> mainstem::Result<()> {
//!     let database = cluster().await.database().await?;
//!     // … write to database.primary_url() …
//!     cluster().await.wait_until_caught_up().await?;
//!     // … read from database.replica_urls()[0] …
//!     database.drop().await
//! }
//!
//! # const _: &str = stringify!(
//! #[tokio::test]
//! # );
//! async fn the_application_survives_a_failover() -> mainstem::Result<()> {
//!     let cluster = LocalCluster::builder().replicas(2).start().await?;
//!     let (old, new) = (cluster.primary(), cluster.replica(0));
//!     old.kill().await?;
//!     new.promote().await?;
//!     old.rejoin().await?;
//!     assert_eq!(cluster.primary().name(), new.name());
//!     Ok(())
//! }
//! ```
//!
//! # Containers
//!
//! `DockerCluster` (feature `testcontainers`) is a cluster of the same kind made of containers. The traits
//! [`TestCluster`] and [`TestNode`] contain what both can do: a test that takes an `&impl TestCluster` runs on either.
//!
//! # Networks
//!
//! The server is only half of what can go wrong for an application. A [`FaultProxy`] in front of a node
//! ([`Node::proxy`]) covers the network: it delays, throttles, falls silent and cuts, on demand and on real
//! connections.
//!
//! # Programs
//!
//! It needs `initdb`, `postgres`, `pg_basebackup` and `pg_rewind` of PostgreSQL 15 to 19, from the folder in the
//! environment variable `MAINSTEM_PG_BIN`, from `PATH`, or from the usual places of Debian, Red Hat, Homebrew and
//! Postgres.app ([`Programs::find`]). In a checkout of this crate, `scripts/setup` finds or installs them, and prints
//! the folder: `MAINSTEM_PG_BIN=$(scripts/setup 18) cargo test`. What it downloads is found through that variable only.
//!
//! # Files
//!
//! Everything is in one temporary folder `mainstem-…`: in the folder that `TMPDIR` names, if it is set; otherwise in
//! memory, in `/dev/shm`, if that has 2 GB to spare; otherwise in `/tmp`. On a disk, a start takes up to three times as
//! long. A new node takes 40 MB, and up to half a gigabyte of log while a replica is stopped.
//!
//! # Access
//!
//! Each node listens on 127.0.0.1 only, on a free port, and requires a password (scram-sha-256) that is generated for
//! each cluster and is part of the URLs; connecting costs less hashing than usual. The user `mainstem` is a superuser.
//! Databases have the locale C and the encoding UTF8.
//!
//! PostgreSQL refuses to run as root. If the tests do, as in many containers, the servers run as the user `postgres`,
//! or else `nobody`. That user must be able to reach the programs and the folder for temporary files.
//!
//! # The end
//!
//! Nothing is left running, whether the cluster is dropped, a test panics, the cluster is in a `static`, or the test
//! process is killed: a shell process holds the other end of a pipe, and when that closes, it ends the servers and
//! removes the folder. Only if this shell is killed too, or the machine goes down, does a folder `mainstem-…` remain.
//!
//! # Runtimes
//!
//! The cluster holds no task and no connection: each test may have its own tokio runtime, as with `#[tokio::test]`. The
//! runtime needs I/O and time enabled.

#[cfg(unix)]
mod account;
#[cfg(unix)]
mod builder;
#[cfg(unix)]
mod cluster;
#[cfg(unix)]
mod create;
#[cfg(unix)]
mod database;
#[cfg(all(unix, feature = "testcontainers"))]
mod docker;
pub mod event_store;
mod failing;
#[cfg(unix)]
mod folder;
#[cfg(unix)]
mod local;
#[cfg(unix)]
mod members;
#[cfg(unix)]
mod node;
#[cfg(unix)]
mod ports;
#[cfg(unix)]
mod processes;
#[cfg(unix)]
mod programs;
#[cfg(unix)]
mod proxy;
#[cfg(unix)]
mod replay;
#[cfg(unix)]
mod roles;
mod scenario;
#[cfg(unix)]
mod scram;
#[cfg(unix)]
mod sealed;
#[cfg(unix)]
mod server;
#[cfg(unix)]
mod settings;
#[cfg(unix)]
mod signals;
#[cfg(unix)]
mod sql;
#[cfg(unix)]
mod test_cluster;
#[cfg(unix)]
mod watchdog;

#[doc(hidden)]
pub use crate::store::{__column, __guard, __row};
#[cfg(unix)]
pub use builder::ClusterBuilder;
#[cfg(unix)]
pub use cluster::LocalCluster;
#[cfg(unix)]
pub use database::TestDatabase;
#[cfg(all(unix, feature = "testcontainers"))]
pub use docker::{DockerCluster, DockerClusterBuilder, DockerNode};
pub use failing::{AppendFault, FailingEventStore};
#[cfg(unix)]
pub use node::Node;
#[cfg(unix)]
pub use programs::Programs;
#[cfg(unix)]
pub use proxy::{Direction, FaultProxy, ProxyCounts};
#[cfg(unix)]
pub use roles::Rejoined;
pub use scenario::{Decided, Scenario};
#[cfg(unix)]
pub use test_cluster::{TestCluster, TestNode};
