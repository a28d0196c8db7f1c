//! The operations of every test cluster, whatever it runs on.

use std::{fmt, future::Future, time::Duration};

use crate::{Result, testing::replay};

use super::{
    database::TestDatabase,
    proxy::FaultProxy,
    roles::Rejoined,
    sealed::{ClusterParts, NodeParts},
};

/// A primary with streaming replicas for tests, whatever it runs on: one test suite runs on a
/// [`LocalCluster`](super::LocalCluster) and on a `DockerCluster` (feature `testcontainers`).
///
/// Only this crate implements it, so methods may be added.
///
/// ```
/// use mainstem::{AppendCondition, Consistency, EventStore, Filter, NewEvent, PostgresEventStore, Result, Router};
/// use mainstem::testing::{TestCluster, TestNode};
///
/// /// Runs on either.
/// async fn a_user_sees_his_own_write(cluster: &impl TestCluster) -> Result<()> {
///     let database = cluster.database().await?;
///     let router = Router::builder().primary(database.primary_url()).replicas(database.replica_urls()).connect().await?;
///     let store = PostgresEventStore::new(&router);
/// #   #[cfg(feature = "migrations")]
///     store.migrate().await?;
///     cluster.wait_until_caught_up().await?;
///
///     cluster.replica(0).pause_replay().await?;
///     let appended = store.append([NewEvent::new("CopyLent", &7)?], AppendCondition::none()).await?;
///     let level = Consistency::AtLeast(appended.token().clone());
///     assert_eq!(store.query(&Filter::any_event()).consistency(level).await?.len(), 1);
///     cluster.replica(0).resume_replay().await
/// }
/// ```
pub trait TestCluster: ClusterParts + fmt::Debug + Send + Sync + Sized {
    /// The type of its servers.
    type Node: TestNode;

    /// Returns all nodes, in the order of their names.
    fn nodes(&self) -> &[Self::Node];

    /// Returns the present primary: the node that was [promoted](TestNode::promote) last, at first `node_1`.
    ///
    /// The cluster remembers it rather than asking, so there is an answer even while it is stopped, and while an old
    /// primary runs beside it. A promotion by other means than [`TestNode::promote`] goes unnoticed.
    fn primary(&self) -> &Self::Node {
        &self.nodes()[self.primary_index()]
    }

    /// Returns all nodes except the [primary](Self::primary), in the order of their names: the replicas, and after a
    /// promotion the old primary.
    fn replicas(&self) -> impl Iterator<Item = &Self::Node> + Send {
        let primary = self.primary_index();
        self.nodes().iter().enumerate().filter(move |(index, _)| *index != primary).map(|(_, node)| node)
    }

    /// Returns one of the [replicas](Self::replicas), from 0. After a promotion the same number may mean another node:
    /// keep the node that you have.
    ///
    /// # Panics
    ///
    /// If the cluster has no such replica.
    fn replica(&self, index: usize) -> &Self::Node {
        self.replicas().nth(index).unwrap_or_else(|| {
            panic!("there is no replica {index} in a cluster with {} nodes, counted from 0", self.nodes().len())
        })
    }

    /// Waits as [`wait_until_caught_up_within`](Self::wait_until_caught_up_within) does, for up to 30 seconds.
    ///
    /// # Errors
    ///
    /// As that.
    ///
    /// # Cancel safety
    ///
    /// As that.
    fn wait_until_caught_up(&self) -> impl Future<Output = Result<()>> + Send {
        self.wait_until_caught_up_within(replay::CATCH_UP_LIMIT)
    }

    /// Waits until every running replica has applied everything that was committed on the primary before this call.
    ///
    /// Frozen nodes and an old primary that still acts as one are ignored. The call writes a small record to the
    /// primary's log, because the end of a record is the only position that a replica is certain to reach.
    ///
    /// # Errors
    ///
    /// [`Timeout`](crate::ErrorKind::Timeout) after the limit, with the position of each node, for instance if a
    /// replica's replay is paused. [`Unavailable`](crate::ErrorKind::Unavailable) if a node does not answer.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    fn wait_until_caught_up_within(&self, limit: Duration) -> impl Future<Output = Result<()>> + Send {
        replay::catch_up(self, limit)
    }

    /// Creates an empty database for one test, which already exists on the running replicas when this returns.
    ///
    /// # Errors
    ///
    /// As [`wait_until_caught_up`](Self::wait_until_caught_up), and if the primary cannot create it.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the database may exist until the end of the cluster.
    fn database(&self) -> impl Future<Output = Result<TestDatabase<'_, Self>>> + Send {
        TestDatabase::create(self)
    }
}

/// A handle to one server of a [`TestCluster`]: inspects it, and stops, kills, freezes or promotes it.
///
/// Its name and its port stay the same for the life of the cluster, whatever its role. The methods that change it wait
/// for each other.
///
/// Limits, errors and cancel safety are those of the same methods of [`Node`](super::Node). For a container this means:
/// the server ends with its container, and a container starts again on the same data and the same port.
pub trait TestNode: NodeParts + fmt::Debug + Send + Sync {
    /// Returns its name: `node_1` for the first primary, `node_2` and so on for its replicas. It is also the server's
    /// `cluster_name`, and, for a replica, its `application_name` and the name of its replication slot.
    fn name(&self) -> &str;

    /// Returns the port on which it is reached from here.
    fn port(&self) -> u16;

    /// Returns the URL of the database `postgres`, with the password of the superuser `mainstem`.
    fn url(&self) -> String {
        self.url_for("postgres")
    }

    /// Returns the URL of another database. The name goes into the URL unchanged: percent-encode what a URL cannot
    /// contain.
    fn url_for(&self, database: &str) -> String;

    /// Starts a proxy in front of this node, to inject network faults. It stays in front of the node over restarts.
    ///
    /// # Errors
    ///
    /// As [`FaultProxy::start`].
    fn proxy(&self) -> Result<FaultProxy>;

    /// Returns the URL of the database `postgres` through a [proxy](Self::proxy) in front of a node of this cluster.
    fn url_through(&self, proxy: &FaultProxy) -> String {
        self.url_at(proxy.port(), "postgres")
    }

    /// Asks the server whether it is a replica.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::ErrorKind::Unavailable) or [`Timeout`](crate::ErrorKind::Timeout) if it does not answer.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    fn is_in_recovery(&self) -> impl Future<Output = Result<bool>> + Send {
        replay::is_in_recovery(self)
    }

    /// Starts the server after [`stop`](Self::stop) or [`kill`](Self::kill), on the same port, and waits until it
    /// accepts connections. Does nothing if it runs.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::ErrorKind::Unavailable) if the server ends, [`Timeout`](crate::ErrorKind::Timeout) if it is
    /// not ready in time; both with the end of its log.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the server may have been started all the same, and continues to start.
    fn start(&self) -> impl Future<Output = Result<()>> + Send;

    /// Stops the server with a fast shutdown: sessions are ended, a checkpoint is written, and a primary waits until
    /// its replicas have all of its log. Does nothing if it does not run; a frozen one is thawed first.
    ///
    /// # Errors
    ///
    /// [`Timeout`](crate::ErrorKind::Timeout) if it still runs after 30 seconds, perhaps because a replica is frozen.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the shutdown may have been requested, and continues.
    fn stop(&self) -> impl Future<Output = Result<()>> + Send;

    /// Restarts the server: [`stop`](Self::stop), then [`start`](Self::start).
    ///
    /// # Errors
    ///
    /// As those two.
    ///
    /// # Cancel safety
    ///
    /// As those two; the server may be left stopped.
    fn restart(&self) -> impl Future<Output = Result<()>> + Send {
        async {
            self.stop().await?;
            self.start().await
        }
    }

    /// Kills the server and all its children at once with SIGKILL, as a crash would. Does nothing if it does not run.
    ///
    /// # Errors
    ///
    /// [`Timeout`](crate::ErrorKind::Timeout) if it still exists after 10 seconds.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the server may be dead: call it again.
    fn kill(&self) -> impl Future<Output = Result<()>> + Send;

    /// Freezes the server and all its children, as when a machine hangs: connections stay open and are accepted, but
    /// nothing is ever answered.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::ErrorKind::Unavailable) if the server does not run, [`Timeout`](crate::ErrorKind::Timeout)
    /// if it cannot be stopped within 10 seconds.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, it may be frozen: call [`thaw`](Self::thaw) or this again.
    fn freeze(&self) -> impl Future<Output = Result<()>> + Send;

    /// Resumes a [frozen](Self::freeze) server.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::ErrorKind::Unavailable) if the server does not run.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, it may run again already.
    fn thaw(&self) -> impl Future<Output = Result<()>> + Send;

    /// Pauses replay: the replica shows the same past state until [`resume_replay`](Self::resume_replay). It still
    /// receives the log. A [delayed](Self::delay_replay) replica that waits for a commit's time pauses only after that
    /// commit.
    ///
    /// # Errors
    ///
    /// [`Database`](crate::ErrorKind::Database) on a primary, [`Unavailable`](crate::ErrorKind::Unavailable) or
    /// [`Timeout`](crate::ErrorKind::Timeout) if the server does not answer or does not pause.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the pause may have been requested, and takes effect.
    fn pause_replay(&self) -> impl Future<Output = Result<()>> + Send;

    /// Resumes replay of the primary's log.
    ///
    /// # Errors
    ///
    /// As [`pause_replay`](Self::pause_replay).
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, replay may have been resumed.
    fn resume_replay(&self) -> impl Future<Output = Result<()>> + Send;

    /// Delays replay: from now on, each commit is applied this long after it was made (`recovery_min_apply_delay`), to
    /// the millisecond; zero ends the delay. It persists over restarts. The delay is measured from the primary's clock.
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration) on a primary, [`Unavailable`](crate::ErrorKind::Unavailable) or
    /// [`Timeout`](crate::ErrorKind::Timeout) if the server does not answer.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the delay may be in force, or take effect with the next restart.
    fn delay_replay(&self, delay: Duration) -> impl Future<Output = Result<()>> + Send;

    /// Promotes this replica, and waits until it is a primary: it finishes the replay of what it has received, and
    /// begins a new timeline. From then on it is the cluster's [`primary`](TestCluster::primary).
    ///
    /// The old primary is left as it is. If it runs, there are two: stop it first, unless that is what the test is
    /// about. Other replicas continue to follow the old one until they [`rejoin`](Self::rejoin).
    ///
    /// # Errors
    ///
    /// [`Database`](crate::ErrorKind::Database) if it is a primary already, [`Unavailable`](crate::ErrorKind::Unavailable) or
    /// [`Timeout`](crate::ErrorKind::Timeout) if the server does not answer.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the server may be promoted while the cluster still considers the old node its primary.
    fn promote(&self) -> impl Future<Output = Result<()>> + Send;

    /// Makes this node a replica of the current primary: an old primary after a failover, or a replica that followed
    /// the old one. It discards what the node has beyond the primary's history. It ends a [delay](Self::delay_replay).
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration) if it is the current primary; otherwise as [`stop`](Self::stop)
    /// and [`start`](Self::start), and if the primary does not answer.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the node may be stopped or gone: call this again.
    fn rejoin(&self) -> impl Future<Output = Result<Rejoined>> + Send;
}
