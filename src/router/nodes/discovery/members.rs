//! Compares a list of replicas with the present ones: what has to be added and what removed.

use std::{net::SocketAddr, sync::Arc};

use tokio::time::Instant;

use super::name::NameUrl;
use crate::{
    error::{Error, Result},
    router::{
        Inner, Role,
        config::{
            settings::ReplicaOptions,
            source::{Parsed, Source},
        },
        core::MOST_NODES,
        nodes::node::Node,
    },
};

/// A replica that came from a source.
pub(in crate::router) struct Member {
    pub(super) source: usize,
    key: String,
    node: Arc<Node>,
}

/// A replica that a source wants.
#[derive(Clone)]
pub(super) struct Wanted {
    /// The same key means the same node.
    key: String,
    url: String,
    /// Its name, if it is not in the URL.
    name: Option<Arc<str>>,
    options: ReplicaOptions,
}

impl Member {
    /// A replica from the settings.
    pub(in crate::router) fn of_settings(url: String, node: Arc<Node>) -> Self {
        Self { source: super::LIST, key: url, node }
    }

    pub(super) fn name(&self) -> Arc<str> {
        Arc::clone(self.node.name())
    }
}

impl Wanted {
    pub(super) fn of_url(url: String) -> Self {
        Self { key: url.clone(), url, name: None, options: ReplicaOptions::new() }
    }

    pub(super) fn of_address(name: &NameUrl, address: SocketAddr, options: &ReplicaOptions) -> Self {
        let key = address.to_string();
        Self { name: Some(key.as_str().into()), key, url: name.at(address), options: options.clone() }
    }
}

impl Inner {
    /// Applies the answer of a source. A useless answer changes only the status of the source.
    pub(super) fn learn(&self, source: usize, answer: Result<Vec<Wanted>>, is_first: bool) -> Result<()> {
        // Locked until the new list is stored: otherwise another task could apply the previous one.
        let mut members = self.discovery.members();
        let outcome = answer.and_then(|wanted| {
            if wanted.is_empty() {
                return Err(Error::invalid_input("the list of replicas is empty; the one before it is kept"));
            }
            let missing = self.apply(&mut members, source, &wanted, is_first)?;
            Ok((wanted, missing))
        });
        let mut answers = self.discovery.answers();
        let Some(last) = answers.get_mut(source) else { return outcome.map(drop) };
        let is_valid = outcome.is_ok();
        let error = match outcome {
            Ok((wanted, missing)) => {
                (last.wanted, last.at) = (wanted, Some(Instant::now()));
                missing
            }
            Err(error) => Some(error),
        };
        let report = error.as_ref().map(Error::report);
        if let Some(error) = &report
            && last.error != report
        {
            tracing::warn!(source, %error, "a list of replicas could not be taken in, or not all of it");
        }
        (last.is_short, last.error) = (is_valid && report.is_some(), report);
        error.map_or(Ok(()), Err)
    }

    /// Retries the removal of a primary that was left out, and the addition of nodes that found no place.
    pub(super) fn apply_late(&self, source: usize) {
        let mut members = self.discovery.members();
        let wanted = self.discovery.answers().get(source).map(|answer| answer.wanted.clone());
        let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) else { return };
        if let Ok(None) = self.apply(&mut members, source, &wanted, false)
            && let Some(last) = self.discovery.answers().get_mut(source)
            && std::mem::take(&mut last.is_short)
        {
            last.error = None;
        }
    }

    /// Adds the nodes that are new in that list, and removes those that are no longer in it. An error inside `Ok` says
    /// that some of them have found no place.
    fn apply(
        &self,
        members: &mut Vec<Member>,
        source: usize,
        wanted: &[Wanted],
        is_first: bool,
    ) -> Result<Option<Error>> {
        let Self { nodes, state, probes, factory, .. } = self;
        let is_member =
            |members: &[Member], key: &str| members.iter().any(|member| member.source == source && member.key == *key);
        let mut new = Vec::new();
        for (index, wanted) in wanted.iter().enumerate() {
            if !is_member(members, &wanted.key) && !new.iter().any(|(other, _): &(&Wanted, _)| other.key == wanted.key)
            {
                let parsed = factory.parse(Source::Url(wanted.url.clone()), index + 1, Some(Role::Replica))?;
                new.push((wanted, parsed));
            }
        }
        members.retain(|member| {
            let is_wanted = wanted.iter().any(|wanted| wanted.key == member.key);
            if member.source != source || is_wanted || !state.remove(member.node.handle().index()) {
                return true;
            }
            tracing::info!(node = %member.node.name(), "a replica has left");
            probes.stop(&member.node);
            nodes.take(member.node.handle().index());
            false
        });
        for (wanted, parsed) in new {
            let Some(name) = self.free_name(wanted, &parsed) else { continue };
            let config = factory.config(Arc::clone(&name), &wanted.options)?;
            let Some(handle) = state.add(config, factory.max_connections, is_first) else {
                let message =
                    format!("a router has at most {MOST_NODES} nodes, those that have left and are in use included");
                return Ok(Some(Error::invalid_input(message).with_node(name)));
            };
            tracing::info!(node = %name, "a replica was added");
            let node = factory.node(name, Some(Role::Replica), parsed, handle).found();
            nodes.put(&node);
            probes.start(&node);
            members.push(Member { source, key: wanted.key.clone(), node });
        }
        Ok(None)
    }

    /// A name that no node has. `None` if the node itself is already there, from another source.
    fn free_name(&self, wanted: &Wanted, parsed: &Parsed) -> Option<Arc<str>> {
        let address = parsed.address();
        let name = wanted.name.clone().unwrap_or(address.host);
        let nodes = self.nodes.all();
        let is_free = |name: &str| nodes.iter().all(|node| **node.name() != *name);
        if is_free(&name) {
            return Some(name);
        }
        let longer = format!("{name}/{}", address.database?);
        // The same database, under the name that it got when it was alone there.
        let is_same = nodes.iter().any(|node| **node.name() == *name && node.database() == parsed.database());
        (!is_same && is_free(&longer)).then(|| longer.into())
    }
}
