//! The faults.

use super::{Simulation, world::SECOND};

impl Simulation {
    /// One thing breaks, or is repaired.
    pub(super) fn go_wrong(&mut self) {
        let Self { world, client, random, now, has_strangers, .. } = self;
        let has_strangers = *has_strangers;
        let count = world.servers.len() as u64;
        let (node, other) = (random.below(count) as usize, random.below(count) as usize);
        match random.below(27) {
            0 | 1 => world.crash(node),
            2 | 3 => world.start(node),
            4 => {
                world.crash(node);
                world.start(node);
            }
            5 => world.servers[node].is_frozen = true,
            6 | 7 => world.servers[node].is_frozen = false,
            8 => world.servers[node].is_reachable = false,
            9 | 10 => world.servers[node].is_reachable = true,
            // The receiver is cut, or the replay waits for a query.
            11 => world.servers[node].is_linked = !world.servers[node].is_linked,
            12 => world.servers[node].is_replaying = !world.servers[node].is_replaying,
            // A regular failover: the old primary is gone. It may come back writable.
            13 => {
                if let Some(leader) = world.leader()
                    && leader != node
                {
                    world.crash(leader);
                    world.promote(node, *now, random.below(2) == 0);
                    (0..count as usize).for_each(|replica| world.follow(replica, node));
                }
            }
            // A promotion while the old primary continues: perhaps two on one timeline.
            14 => world.promote(node, *now, random.below(4) != 0),
            // Old primaries become replicas.
            15 | 16 => {
                if let Some(leader) = world.leader()
                    && world.servers[leader].system == 1
                {
                    world.rebuild(node, leader);
                }
            }
            17 => world.follow(node, other),
            // The address belongs to another cluster now. (The cluster's first node stays: its identity is the cluster's.)
            18 if has_strangers && node != 0 && random.below(4) == 0 => world.replace(node, random.below(2) == 0, *now),
            19 => world.servers[node].latency = 200 + random.below(30_000),
            20 => world.servers[node].cancels = random.below(100),
            21 => world.servers[node].cancels = 0,
            // The machine of the router sleeps.
            22 if random.below(4) == 0 => *now += random.below(60 * SECOND),
            // Its threads read the clock, and report what they have seen out of order.
            23 => client.skew = random.below(20_000),
            // The list of nodes changes. An added node is a new copy, a server of another cluster, or what was there
            // before.
            24..=26 => {
                if let Some(added) = client.change_list(node, *now) {
                    match (random.below(4), world.leader()) {
                        (0 | 1, Some(leader)) if world.servers[leader].system == 1 => world.rebuild(added, leader),
                        (2, _) if has_strangers && random.below(4) == 0 => {
                            world.replace(added, random.below(2) == 0, *now)
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}
