//! Creates nodes from the settings: at the start, and later those that are added.

use std::sync::{Arc, Mutex, PoisonError};

use super::node::{Node, Pool};
use crate::{
    error::Result,
    router::{
        Role,
        config::{
            builder::Limits,
            settings::{ReplicaOptions, Routing},
            source::{Parsed, Source},
            tls,
            url::Defaults,
        },
        pool::{
            borrowed::ExistingPool,
            connection::SessionSettings,
            manager::{ConnectFailures, Manager},
            own_pool::OwnPool,
            upkeep::Upkeep,
        },
        state::NodeHandle,
    },
};

/// What all nodes have in common.
pub(in crate::router) struct Factory {
    pub(in crate::router) limits: Limits,
    pub(in crate::router) max_connections: u32,
    pub(in crate::router) waiting_calls: u32,
    pub(in crate::router) session: SessionSettings,
    pub(in crate::router) upkeep: Upkeep,
    pub(in crate::router) routing: Routing,
    /// What applies where URLs leave something out.
    pub(in crate::router) defaults: Defaults,
    pub(in crate::router) tls: Mutex<tls::Resolver>,
}

impl Factory {
    /// Parses the source of the node with this index in the settings.
    pub(in crate::router) fn parse(&self, source: Source, index: usize, role: Option<Role>) -> Result<Parsed> {
        let mut tls = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        source.parse(index, role, self.limits.connect_timeout, self.session.is_pooled, &self.defaults, &mut tls)
    }

    /// A node with its pool.
    pub(in crate::router) fn node(
        &self,
        name: Arc<str>,
        role: Option<Role>,
        source: Parsed,
        handle: NodeHandle,
    ) -> Node {
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
    pub(in crate::router) fn config(
        &self,
        name: Arc<str>,
        options: &ReplicaOptions,
    ) -> Result<crate::router::core::NodeConfig> {
        self.routing.node(name, Role::Replica, options)
    }
}

/// Leaves out what URLs and TLS files contain.
impl std::fmt::Debug for Factory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Factory").field("routing", &self.routing).finish_non_exhaustive()
    }
}
