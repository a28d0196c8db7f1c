//! Creates nodes from the settings: at the start, and later those that are added.

use std::sync::{Arc, Mutex, PoisonError};

use super::{
    Role,
    borrowed::ExistingPool,
    builder::Limits,
    connection::SessionSettings,
    manager::{ConnectFailures, Manager},
    node::{Node, Pool},
    own_pool::OwnPool,
    settings::{ReplicaOptions, Routing},
    source::{Parsed, Source},
    state::NodeHandle,
    tls,
    upkeep::Upkeep,
    url::Defaults,
};
use crate::error::Result;

/// What all nodes have in common.
pub(super) struct Factory {
    pub(super) limits: Limits,
    pub(super) max_connections: u32,
    pub(super) waiting_calls: u32,
    pub(super) session: SessionSettings,
    pub(super) upkeep: Upkeep,
    pub(super) routing: Routing,
    /// What applies where URLs leave something out.
    pub(super) defaults: Defaults,
    pub(super) tls: Mutex<tls::Resolver>,
}

impl Factory {
    /// Parses the source of the node with this index in the settings.
    pub(super) fn parse(&self, source: Source, index: usize, role: Option<Role>) -> Result<Parsed> {
        let mut tls = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        source.parse(index, role, self.limits.connect_timeout, self.session.is_pooled, &self.defaults, &mut tls)
    }

    /// A node with its pool.
    pub(super) fn node(&self, name: Arc<str>, role: Option<Role>, source: Parsed, handle: NodeHandle) -> Node {
        let endpoint = source.endpoint();
        let pool = match source {
            Parsed::Pool(_, ExistingPool(pool)) => Pool::Borrowed(pool),
            Parsed::Url(_, configs) => {
                let (node, failures) = (handle.clone(), Arc::new(ConnectFailures::new()));
                let connect_timeout = self.limits.connect_timeout;
                let manager = Manager::new(*configs, node, connect_timeout, self.session, self.upkeep);
                Pool::Own(OwnPool::new(manager, self.max_connections, self.waiting_calls, failures, self.upkeep))
            }
        };
        Node::new(name, role, pool, handle).at(endpoint)
    }

    /// The core's configuration of an added replica.
    pub(super) fn config(&self, name: Arc<str>, options: &ReplicaOptions) -> Result<super::core::NodeConfig> {
        self.routing.node(name, Role::Replica, options)
    }
}

/// Leaves out what URLs and TLS files contain.
impl std::fmt::Debug for Factory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Factory").field("routing", &self.routing).finish_non_exhaustive()
    }
}
