//! How the router's shell in miniature probes the nodes.

use super::{
    client::Client,
    duration,
    oracle::Violation,
    world::{Time, World},
};
use crate::{
    lsn::Lsn,
    router::core::{
        observation::{ConnectFailure, Observation, Report, Standing},
        random::Random,
    },
};

const PROBE_LIMIT: Time = 500_000;

/// A probe in flight.
pub(super) struct Probe {
    answer_at: Time,
    /// The coming answer; nothing if the node does not answer.
    report: Option<(u64, Report)>,
    is_refused: bool,
    is_connecting: bool,
}

impl Client {
    /// Probes the nodes whose time has come, and takes in the answers of the others.
    pub(super) fn probe(&mut self, world: &World, now: Time, random: &mut Random) {
        for node in 0..self.probes.len() {
            if let Some(probe) = &self.probes[node]
                && probe.answer_at <= now
                && let Some(probe) = self.probes[node].take()
            {
                self.probed(world, node, &probe);
            } else if self.there[node] && self.probes[node].is_none() && duration(now) >= self.cluster.next_probe(node)
            {
                self.probes[node] = Some(self.ask(world, node, now, random));
            }
        }
    }

    fn ask(&self, world: &World, node: usize, now: Time, random: &mut Random) -> Probe {
        let server = &world.servers[node];
        let is_refused = server.is_reachable && !server.is_up;
        if !world.answers(node) {
            let answer_at = now + if is_refused { 200 } else { PROBE_LIMIT };
            // Now and then it needs a new connection.
            return Probe { answer_at, report: None, is_refused, is_connecting: random.below(2) == 0 };
        }
        // Now and then it takes a while, and is overtaken by what calls see.
        let answer_at = now + server.latency + if random.below(10) == 0 { random.below(400_000) } else { 0 };
        let report = self.report_of(world, node, now);
        Probe { answer_at, report: Some((server.boot, report)), is_refused, is_connecting: false }
    }

    /// A call's connection has asked who the node is, before anything else is sent there.
    pub(super) fn introduce(&mut self, world: &World, node: usize, now: Time) -> Result<(), Violation> {
        let report = self.report_of(world, node, now);
        self.connected[node] = Some(world.servers[node].boot);
        if self.there[node] {
            self.oracle.reported(node, &report);
        }
        self.live.node(node).answered();
        self.observe(node, Observation::Probed(report), now)
    }

    /// Its answer to a probe at this moment.
    fn report_of(&self, world: &World, node: usize, now: Time) -> Report {
        let server = &world.servers[node];
        let place = Some(Lsn::new(server.place));
        let standing = match server.is_writable {
            true => Standing::Primary { flush: place },
            false => Standing::Replica { replay: place, received: place, is_receiving: None },
        };
        let (sent_at, timeline) = (now.saturating_sub(self.skew), Some(world.timeline(server)));
        Report {
            sent_at: duration(sent_at),
            system: Some(server.system),
            timeline,
            may_be_newer: false,
            instance: Some((node as u64) << 32 | server.boot),
            standing,
        }
    }

    fn probed(&mut self, world: &World, node: usize, probe: &Probe) {
        let at = probe.answer_at;
        let (answers, served) = (self.live.node(node).answers(), self.live.node(node).calls_served());
        let observation = match &probe.report {
            Some((boot, report)) if world.answers(node) && *boot == world.servers[node].boot => {
                if self.connected[node].is_some_and(|connected| connected != *boot) {
                    self.connected[node] = None;
                    let told_at = self.tell(at);
                    self.oracle.lost(node, told_at);
                    let _ = self.observe(node, Observation::Lost { served }, at);
                    return;
                }
                self.connected[node] = Some(*boot);
                if self.there[node] {
                    self.oracle.reported(node, report);
                }
                self.live.node(node).answered();
                Observation::Probed(*report)
            }
            _ if probe.is_refused => {
                self.connected[node] = None;
                let told_at = self.tell(at);
                self.oracle.lost(node, told_at);
                self.oracle.refused(node, told_at);
                Observation::ConnectFailed(ConnectFailure::NobodyListens)
            }
            _ if probe.is_connecting => {
                let told_at = self.tell(at);
                self.oracle.lost(node, told_at);
                Observation::ConnectFailed(ConnectFailure::NoAnswer)
            }
            _ => Observation::Silent { answers },
        };
        let _ = self.observe(node, observation, at);
    }
}
