//! The cluster as it really is: nodes that write, replicate, lag, crash, and are promoted with or without what was
//! acknowledged. Nothing in here knows of the router.

use std::collections::VecDeque;

use crate::router::core::random::Random;

/// Microseconds.
pub(super) type Time = u64;

pub(super) const SECOND: Time = 1_000_000;

/// One history: it begins where it leaves its parent. Two of them may have the same timeline number.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) timeline: u32,
    /// Whether it belongs to the router's cluster.
    is_ours: bool,
    parent: Option<(usize, u64)>,
    /// Where its primary had flushed to, and since when; the oldest ones are forgotten.
    flushed: VecDeque<(Time, u64)>,
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) system: u64,
    pub(super) is_up: bool,
    /// Its sockets are open, and nothing answers.
    pub(super) is_frozen: bool,
    /// Whether the router can reach it.
    pub(super) is_reachable: bool,
    /// Counts its starts.
    pub(super) boot: u64,
    pub(super) is_writable: bool,
    pub(super) branch: usize,
    pub(super) place: u64,
    received: u64,
    /// What it retains at least after a crash.
    durable: u64,
    upstream: usize,
    pub(super) is_linked: bool,
    pub(super) is_replaying: bool,
    /// From a request to its answer.
    pub(super) latency: Time,
    /// How many of a hundred queries are cancelled.
    pub(super) cancels: u64,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) servers: Vec<Server>,
    pub(super) branches: Vec<Branch>,
}

impl World {
    pub(super) fn new(count: usize) -> Self {
        let server = |index: usize| Server {
            system: 1,
            is_up: true,
            is_frozen: false,
            is_reachable: true,
            boot: 0,
            is_writable: index == 0,
            branch: 0,
            place: 1000,
            received: 1000,
            durable: 1000,
            upstream: 0,
            is_linked: true,
            is_replaying: true,
            latency: 1000,
            cancels: 0,
        };
        let root = Branch { timeline: 1, is_ours: true, parent: None, flushed: VecDeque::from([(0, 1000)]) };
        Self { servers: (0..count).map(server).collect(), branches: vec![root] }
    }

    /// All running writable servers write, whether or not anyone should still write there.
    pub(super) fn write(&mut self, now: Time, bytes: u64) {
        for server in self.servers.iter_mut().filter(|server| server.is_writable && server.is_up && !server.is_frozen) {
            server.place += bytes;
            (server.durable, server.received) = (server.place, server.place);
            let flushed = &mut self.branches[server.branch].flushed;
            flushed.push_back((now, server.place));
            if flushed.len() > 4096 {
                flushed.pop_front();
            }
        }
    }

    /// This replica receives and replays what it can.
    pub(super) fn replicate(&mut self, index: usize, random: &mut Random) {
        let upstream = &self.servers[self.servers[index].upstream];
        let (from, branch, sends) = (upstream.place, upstream.branch, upstream.is_up && !upstream.is_frozen);
        let follows = self.servers[index].branch == branch || self.may_follow(index, branch);
        let server = &mut self.servers[index];
        if server.is_writable || !server.is_up || server.is_frozen {
            return;
        }
        if sends && server.is_linked && follows && from >= server.received {
            server.received = from;
        }
        if server.is_replaying && server.received > server.place {
            // Gradually, not always all of it.
            server.place += (server.received - server.place).min(1 + random.below(2000));
            if sends && server.is_linked && follows {
                server.branch = branch;
            }
        }
        if random.below(20) == 0 {
            server.durable = server.place;
        }
    }

    fn may_follow(&self, index: usize, branch: usize) -> bool {
        let server = &self.servers[index];
        self.branches[branch].parent.is_some_and(|(parent, at)| parent == server.branch && server.received <= at)
    }

    pub(super) fn crash(&mut self, index: usize) {
        let server = &mut self.servers[index];
        server.is_up = false;
        // What was replayed but not yet written out is replayed again.
        (server.place, server.received) = (server.durable, server.durable);
    }

    pub(super) fn start(&mut self, index: usize) {
        let server = &mut self.servers[index];
        if !server.is_up {
            (server.is_up, server.is_frozen) = (true, false);
            server.boot += 1;
        }
    }

    /// Makes a replica a separate primary, from its present position: what it did not receive is lost. Its timeline is
    /// one more than its own, so that two promotions may have the same one; or a `fresh` one, newer than all.
    pub(super) fn promote(&mut self, index: usize, now: Time, fresh: bool) {
        let newest = self.branches.iter().map(|branch| branch.timeline).max().unwrap_or(0);
        let server = &mut self.servers[index];
        if server.is_writable || !server.is_up || server.is_frozen {
            return;
        }
        let timeline = if fresh { newest + 1 } else { self.branches[server.branch].timeline + 1 };
        let branch = Branch {
            timeline,
            is_ours: self.branches[server.branch].is_ours,
            parent: Some((server.branch, server.place)),
            flushed: VecDeque::from([(now, server.place)]),
        };
        server.is_writable = true;
        server.branch = self.branches.len();
        (server.received, server.durable) = (server.place, server.place);
        self.branches.push(branch);
    }

    /// The primary of the settings is down, and another node has replaced it, which may be down by now as well.
    pub(super) fn fail_over_before_anybody_looks(&mut self, random: &mut Random) {
        let others = self.servers.len() as u64 - 1;
        let next = 1 + random.below(others) as usize;
        self.crash(0);
        self.promote(next, 0, true);
        for _ in 0..10 {
            self.write(0, 100);
            for node in (1..self.servers.len()).filter(|node| *node != next) {
                self.follow(node, next);
                self.replicate(node, random);
            }
        }
        if random.below(2) == 0 {
            self.crash(next);
        }
    }

    /// Makes it a replica of another node, from a new copy: a restart.
    pub(super) fn rebuild(&mut self, index: usize, from: usize) {
        if index == from {
            return;
        }
        let source = &self.servers[from];
        let (branch, place, system) = (source.branch, source.place, source.system);
        let server = &mut self.servers[index];
        (server.branch, server.place, server.received, server.durable) = (branch, place, place, place);
        (server.is_writable, server.is_up, server.is_frozen, server.upstream) = (false, true, false, from);
        server.system = system;
        server.boot += 1;
    }

    /// Puts a server of another cluster at its address, which looks the same but for the identifier.
    pub(super) fn replace(&mut self, index: usize, is_writable: bool, now: Time) {
        let server = &mut self.servers[index];
        let timeline = self.branches[server.branch].timeline;
        let flushed = VecDeque::from([(now, server.place)]);
        (server.system, server.is_writable, server.branch) = (2, is_writable, self.branches.len());
        server.boot += 1;
        self.branches.push(Branch { timeline, is_ours: false, parent: None, flushed });
    }

    pub(super) fn follow(&mut self, index: usize, upstream: usize) {
        if index != upstream {
            self.servers[index].upstream = upstream;
        }
    }

    /// The writable server of the newest timeline, the last one promoted if there are two.
    pub(super) fn leader(&self) -> Option<usize> {
        let writable = self.servers.iter().enumerate().filter(|(_, server)| server.is_writable && server.is_up);
        writable.max_by_key(|(_, server)| (self.timeline(server), server.branch)).map(|(index, _)| index)
    }

    pub(super) fn timeline(&self, server: &Server) -> u32 {
        self.branches[server.branch].timeline
    }

    /// Whether a timeline number means one history.
    pub(super) fn is_unique(&self, timeline: u32) -> bool {
        self.branches.iter().filter(|branch| branch.is_ours && branch.timeline == timeline).count() == 1
    }

    /// Whether a server contains what was written at this place of this branch.
    pub(super) fn has(&self, server: usize, branch: usize, place: u64) -> bool {
        let server = &self.servers[server];
        let (mut at, mut end) = (server.branch, server.place);
        loop {
            if at == branch {
                return end >= place;
            }
            let Some((parent, switch)) = self.branches[at].parent else { return false };
            (at, end) = (parent, end.min(switch));
        }
    }

    /// What had been acknowledged on this branch by then, as far as is remembered.
    pub(super) fn acknowledged(&self, branch: usize, by: Time) -> u64 {
        let flushed = &self.branches[branch].flushed;
        let passed = flushed.partition_point(|(at, _)| *at <= by);
        passed.checked_sub(1).map_or(0, |last| flushed[last].1)
    }

    /// Whether a request is answered at all.
    pub(super) fn answers(&self, index: usize) -> bool {
        let server = &self.servers[index];
        server.is_up && server.is_reachable && !server.is_frozen
    }

    /// Everything works again, and one node leads.
    pub(super) fn heal(&mut self, now: Time) {
        for index in 0..self.servers.len() {
            self.start(index);
            let server = &mut self.servers[index];
            (server.is_frozen, server.is_reachable, server.is_linked, server.is_replaying) = (false, true, true, true);
            (server.latency, server.cancels) = (1000, 0);
        }
        let member = |server: &Server| server.system == 1;
        let leader = self.leader().filter(|&index| member(&self.servers[index]));
        let leader = leader.or_else(|| self.servers.iter().position(member)).unwrap_or(0);
        self.servers[leader].is_writable = false;
        self.servers[leader].system = 1;
        self.promote(leader, now, true);
        for index in 0..self.servers.len() {
            self.rebuild(index, leader);
        }
    }
}
