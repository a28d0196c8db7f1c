//! Builds a router from the settings, if they allow it.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex},
};

use super::{
    builder::{Limits, Listed},
    source::Source,
    tls, url,
};
use crate::{
    error::{Error, Result},
    router::{
        Inner, Role, Router, RouterBuilder,
        core::MOST_NODES,
        nodes::{
            Nodes,
            discovery::{Discovery, Member},
            factory::Factory,
            probe::Probes,
        },
        pool::names,
        state::{NodeHandle, State},
    },
    runtime,
};

impl RouterBuilder {
    /// The router, whose nodes have not been probed yet.
    pub(in crate::router) fn assemble(mut self) -> Result<Router> {
        if let Some(mistake) = self.mistake.take() {
            return Err(mistake);
        }
        self.check_settings()?;
        runtime::current()?;
        #[cfg(feature = "rustls")]
        self.tls.overrule(&mut self.defaults.tls);
        if !self.has_connect_timeout {
            let urls = self.sources.iter().filter_map(|listed| listed.source.url().map(Cow::from));
            let urls = urls.chain(self.discovery.examples().map(|(url, _)| Cow::from(url)));
            let longest = urls.filter_map(|url| url::connect_timeout(&url, &self.defaults)).max();
            self.limits.connect_timeout = self.limits.connect_timeout.max(longest.unwrap_or_default());
        }
        let tls = Mutex::new(self.tls_resolver());
        let Self {
            mut sources,
            defaults,
            max_connections,
            waiting_calls,
            session,
            upkeep,
            mut limits,
            routing,
            discovery,
            ..
        } = self;
        limits.replay_wait = routing.replay_wait;
        limits.fallback_wait = routing.fallback_wait;
        let factory = Factory { limits, max_connections, waiting_calls, session, upkeep, routing, defaults, tls };
        sources.sort_by_key(|listed| listed.role != Some(Role::Primary));
        let mut listed = Vec::with_capacity(sources.len());
        for (index, Listed { role, source, options }) in sources.into_iter().enumerate() {
            let url = source.url().filter(|_| role == Some(Role::Replica)).map(str::to_owned);
            listed.push((factory.parse(source, index, role)?, role, options, url));
        }
        for (url, options) in discovery.examples() {
            factory.config("".into(), options)?;
            factory.parse(Source::Url(url), 0, Some(Role::Replica))?;
        }
        let database = listed.first().and_then(|(source, ..)| source.database()).map(Arc::from);
        let addresses: Vec<_> = listed.iter().map(|(source, ..)| source.address()).collect();
        let mut parsed = Vec::with_capacity(listed.len());
        for ((source, role, options, url), name) in listed.into_iter().zip(names::of(&addresses)?) {
            // Until it reports its role, it counts as one that is not written to.
            let config = factory.routing.node(name, role.unwrap_or(Role::Replica), &options)?;
            parsed.push((config, role, source, url));
        }
        let capacities = parsed.iter().map(|(_, _, source, _)| source.capacity(max_connections)).collect();
        let cluster = factory.routing.cluster(parsed.iter().map(|(config, ..)| config.clone()).collect());
        let budget = factory.routing.budget(max_connections);
        let state = Arc::new(State::new(cluster, capacities, budget, discovery.finds_replicas()));
        state.will_look_up(discovery.names());
        let (mut nodes, mut members) = (Vec::with_capacity(parsed.len()), Vec::new());
        for (index, (config, role, source, url)) in parsed.into_iter().enumerate() {
            let handle = NodeHandle::new(Arc::clone(&state), index);
            let node = Arc::new(factory.node(config.name, role, source, handle));
            members.extend(url.map(|url| Member::of_settings(url, Arc::clone(&node))));
            nodes.push(node);
        }
        let probes = Probes::new(factory.routing.is_probing(), limits.connect_timeout);
        let (nodes, discovery) = (Nodes::new(nodes), Discovery::new(discovery, members));
        Ok(Router { inner: Arc::new(Inner { nodes, discovery, factory, state, limits, probes, database }) })
    }

    #[cfg(feature = "rustls")]
    fn tls_resolver(&self) -> tls::Resolver {
        tls::Resolver::new(self.tls.clone())
    }

    #[cfg(not(feature = "rustls"))]
    fn tls_resolver(&self) -> tls::Resolver {
        tls::Resolver
    }

    fn check_settings(&self) -> Result<()> {
        let primaries = self.sources.iter().filter(|listed| listed.role == Some(Role::Primary)).count();
        if self.sources.iter().any(|listed| listed.role.is_none()) {
            if primaries > 0 {
                let message = "which node of a URL list is the primary it tells itself: put all nodes into the list";
                return Err(Error::configuration(message));
            }
            if !self.routing.is_probing() {
                let message = "probe_interval is none, but the nodes of a URL list have to be asked for their roles";
                return Err(Error::configuration(message));
            }
        } else if primaries != 1 {
            let message = format!("a router has exactly one primary, but the settings name {primaries}");
            return Err(Error::configuration(message));
        }
        if self.sources.len() > MOST_NODES {
            let count = self.sources.len();
            return Err(Error::configuration(format!("a router has at most {MOST_NODES} nodes, and not {count}")));
        }
        self.routing.check()?;
        self.upkeep.check(self.max_connections)?;
        self.discovery.check(self.routing.is_probing())?;
        if self.max_connections == 0 {
            return Err(Error::configuration("max_connections is 0: no call could ever get a connection"));
        }
        let Limits { acquire_timeout, call_timeout, connect_timeout, .. } = self.limits;
        let limits = [
            ("acquire_timeout", acquire_timeout),
            ("call_timeout", call_timeout),
            ("connect_timeout", connect_timeout),
        ];
        match limits.iter().find(|(_, limit)| limit.is_zero()) {
            Some((name, _)) => Err(Error::configuration(format!("{name} is 0: every call would fail at once"))),
            None => Ok(()),
        }
    }
}
