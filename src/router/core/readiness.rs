//! Whether calls can be served, for readiness probes.

use std::{fmt, sync::Arc};

use super::{
    Fallback, Role,
    status::{NodeCondition, NodeStatus, PrimaryState, RouterStatus},
};

/// Whether the application can serve requests; see [`Router::readiness`](crate::Router::readiness).
///
/// Its [`Display`](fmt::Display) is one line, suitable as the probe's answer; it contains node names but no passwords.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Readiness {
    /// Strong calls: appends, commands, reads of the newest state.
    pub strong: Availability,
    /// Eventual reads without further requirements. A read with a bound or a token may still find no suitable node.
    pub eventual: Availability,
}

/// Whether calls of one consistency level can be served.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Availability {
    /// They can be served.
    #[non_exhaustive]
    Available {
        /// A node that would serve them; others may serve them too.
        node: Arc<str>,
        /// The node's role: on the primary, eventual reads are limited to what its
        /// [fallback](crate::RouterBuilder::fallback) allows.
        role: Role,
    },
    /// They cannot be served.
    #[non_exhaustive]
    Unavailable {
        /// The reason, with the names of the nodes.
        reason: String,
    },
}

impl Readiness {
    /// Returns whether any calls can be served, strong or eventual.
    ///
    /// A router without replicas in service is ready, since the primary serves some of their reads. A router without a
    /// primary is ready if a replica serves: taking the instance out of the load balancer would end reads too, and no
    /// other instance has a primary either. An application that only writes checks [`strong`](Self::strong).
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.strong.is_available() || self.eventual.is_available()
    }
}

impl Availability {
    /// Returns whether calls can be served.
    #[must_use]
    pub fn is_available(&self) -> bool {
        matches!(self, Self::Available { .. })
    }

    fn by(node: &NodeStatus) -> Self {
        Self::Available { node: Arc::clone(&node.name), role: node.role }
    }

    fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into() }
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "strong: {}; eventual: {}", self.strong, self.eventual)
    }
}

impl fmt::Display for Availability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Available { node, role } => write!(f, "{node} ({role})"),
            Self::Unavailable { reason } => write!(f, "unavailable: {reason}"),
        }
    }
}

impl RouterStatus {
    /// Derives from this status whether calls can be served; see [`Router::readiness`](crate::Router::readiness).
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        Readiness { strong: self.strong(), eventual: self.eventual() }
    }

    fn strong(&self) -> Availability {
        // Until then, strong calls wait: the apparent primary may have been replaced.
        let unasked: Vec<&str> = self.nodes.iter().filter(|node| !node.is_asked).map(|node| &*node.name).collect();
        if !unasked.is_empty() {
            return Availability::unavailable(format!("not asked yet how they are: {}", unasked.join(", ")));
        }
        if self.is_starting {
            return Availability::unavailable("names of replicas are not looked up yet");
        }
        match &self.primary {
            PrimaryState::Known { node: name } => match self.nodes.iter().find(|node| node.name == *name) {
                Some(node) if node.condition.is_in_service() => {
                    Availability::Available { node: Arc::clone(name), role: Role::Primary }
                }
                Some(node) => Availability::unavailable(format!("the primary {name}: {}", node.condition)),
                None => Availability::unavailable(format!("the primary {name} is not among the nodes")),
            },
            PrimaryState::SplitBrain { nodes } => {
                Availability::unavailable(format!("{} both take writes: stop one of them", nodes.join(" and ")))
            }
            PrimaryState::Fenced { node: name } => {
                Availability::unavailable(format!("a newer primary than {name} has been seen, and is not reachable"))
            }
            PrimaryState::Unknown => Availability::unavailable("no node is known to take writes"),
        }
    }

    fn eventual(&self) -> Availability {
        let is_primary = |node: &NodeStatus| self.primary.known() == Some(&node.name);
        let replicas =
            || self.nodes.iter().filter(|node| node.is_asked && node.role == Role::Replica && !is_primary(node));
        let primary = || {
            let may_serve = self.fallback.policy != Fallback::Never || self.fallback.is_only_node;
            self.nodes
                .iter()
                .find(|node| may_serve && node.is_asked && is_primary(node) && node.condition.is_in_service())
        };
        let in_time =
            || replicas().find(|node| matches!(node.condition, NodeCondition::Serving | NodeCondition::SlowStart));
        let behind = || replicas().find(|node| node.condition.is_in_service());
        match in_time().or_else(primary).or_else(behind) {
            Some(node) => Availability::by(node),
            None => Availability::unavailable(self.reasons()),
        }
    }

    /// For each node, why it serves no eventual reads.
    fn reasons(&self) -> String {
        let reasons = self.nodes.iter().map(|node| match &node.condition {
            _ if !node.is_asked => format!("{}: not asked yet how it is", node.name),
            state if state.is_in_service() => {
                format!("{}: the primary, which may not serve reads for replicas", node.name)
            }
            state => format!("{}: {state}", node.name),
        });
        reasons.collect::<Vec<_>>().join("; ")
    }
}

impl NodeCondition {
    /// Whether the node serves any calls.
    fn is_in_service(&self) -> bool {
        match self {
            Self::Serving | Self::SlowStart | Self::Lagging | Self::OlderTimeline => true,
            Self::Ejected { .. } | Self::Foreign | Self::Joining | Self::Fenced => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::router::core::{EjectionCause, FallbackStatus};

    const OUT: NodeCondition =
        NodeCondition::Ejected { cause: EjectionCause::Unreachable, elapsed: Duration::from_secs(1) };

    fn node(name: &str, role: Role, state: NodeCondition) -> NodeStatus {
        NodeStatus {
            name: name.into(),
            role,
            condition: state,
            is_asked: true,
            generation: 0,
            system_identifier: None,
            timeline: None,
            lsn: None,
            lag_bytes: None,
            lag: None,
            staleness: None,
            is_receiving: None,
            in_flight: 0,
            capacity: None,
            latency: None,
            weight: 1,
        }
    }

    fn status(primary: NodeCondition, replicas: &[NodeCondition]) -> RouterStatus {
        let mut nodes = vec![node("p", Role::Primary, primary)];
        nodes.extend(replicas.iter().zip(["a", "b"]).map(|(state, name)| node(name, Role::Replica, state.clone())));
        RouterStatus {
            primary: PrimaryState::Known { node: "p".into() },
            timeline: Some(1),
            is_starting: false,
            nodes,
            sources: Vec::new(),
            fallback: FallbackStatus {
                policy: Fallback::Protect,
                in_flight: 0,
                limit: Some(2),
                is_spent: false,
                is_only_node: replicas.is_empty(),
            },
        }
    }

    /// The nodes that serve strong and eventual calls, and whether that counts as ready.
    fn served(status: &RouterStatus) -> (Option<String>, Option<String>, bool) {
        let readiness = status.readiness();
        let by = |availability: &Availability| match availability {
            Availability::Available { node, .. } => Some(node.to_string()),
            Availability::Unavailable { .. } => None,
        };
        (by(&readiness.strong), by(&readiness.eventual), readiness.is_ready())
    }

    fn by(strong: &str, eventual: &str) -> (Option<String>, Option<String>, bool) {
        let some = |name: &str| Some(name.to_owned()).filter(|name| !name.is_empty());
        (some(strong), some(eventual), !strong.is_empty() || !eventual.is_empty())
    }

    #[test]
    fn each_level_is_served_by_who_would_serve_it() {
        use NodeCondition::{Fenced, Foreign, Lagging, OlderTimeline, Serving, SlowStart};
        let cases = [
            (Serving, &[Serving, Serving][..], by("p", "a")),
            (Serving, &[OUT, SlowStart], by("p", "b")),
            // Without replicas the primary takes over some of their reads.
            (Serving, &[OUT, Foreign], by("p", "p")),
            (Serving, &[Lagging], by("p", "p")),
            (Serving, &[], by("p", "p")),
            // Without a primary reads continue, on lagging replicas if necessary.
            (OUT, &[OUT, Serving], by("", "b")),
            (OUT, &[Lagging], by("", "a")),
            (OUT, &[OlderTimeline], by("", "a")),
            (OUT, &[OUT, Fenced], by("", "")),
            (OUT, &[], by("", "")),
        ];
        for (primary, replicas, expected) in cases {
            assert_eq!(served(&status(primary.clone(), replicas)), expected, "{primary:?} {replicas:?}");
        }
        let mut never = status(Serving, &[OUT]);
        never.fallback.policy = Fallback::Never;
        assert_eq!(served(&never), by("p", ""));
        let eventual = never.readiness().eventual.to_string();
        assert!(eventual.contains("a: out of service: it cannot be reached"), "{eventual}");
        assert!(eventual.contains("p: the primary, which may not serve"), "{eventual}");
        // Alone, it serves them all the same; but not while replicas may yet come from a name.
        never = status(Serving, &[]);
        never.fallback.policy = Fallback::Never;
        assert_eq!(served(&never), by("p", "p"));
        never.fallback.is_only_node = false;
        assert_eq!(served(&never), by("p", ""));
    }

    #[test]
    fn without_one_primary_nothing_strong_is_served_and_the_reason_names_the_nodes() {
        let states = [
            (PrimaryState::Unknown, "no node"),
            (PrimaryState::Fenced { node: "p".into() }, "newer primary than p"),
            (PrimaryState::SplitBrain { nodes: vec!["p".into(), "a".into()] }, "p and a both"),
        ];
        for (primary, part) in states {
            let mut status = status(NodeCondition::Fenced, &[NodeCondition::Serving]);
            status.primary = primary;
            assert_eq!(served(&status), by("", "a"));
            let readiness = status.readiness().to_string();
            assert!(readiness.contains(part), "{readiness}");
        }
    }

    #[test]
    fn nobody_is_ready_before_a_node_was_asked() {
        let mut status = status(NodeCondition::Serving, &[NodeCondition::Serving]);
        status.nodes[1].is_asked = false;
        // Strong calls wait for the answer: that node may be the primary.
        assert_eq!(served(&status), by("", "p"));
        assert!(status.readiness().strong.to_string().contains("not asked yet how they are: a"));
        (status.nodes[1].is_asked, status.is_starting) = (true, true);
        assert_eq!(served(&status), by("", "a"));
        status.nodes[1].is_asked = false;
        status.nodes[0].is_asked = false;
        assert_eq!(served(&status), by("", ""));
    }
}
