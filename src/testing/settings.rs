//! The contents of each node's `postgresql.conf`.

use std::{fmt::Write, time::Duration};

use crate::{Error, Result};

/// The same on all nodes: a replica refuses to start with lower limits than its primary has.
const COMMON: &str = "\
max_connections = 200
max_wal_senders = 20
max_replication_slots = 20
shared_buffers = '32MB'
wal_level = replica
hot_standby = on
# A replica that is stopped for good must not fill the disk of the primary.
max_slot_wal_keep_size = '512MB'
# The files may lie in memory.
max_wal_size = '256MB'
# pg_rewind needs the log since the nodes parted.
wal_keep_size = '128MB'
# A replica is back as soon as its primary is: the default is five seconds.
wal_retrieve_retry_interval = '100ms'
wal_receiver_status_interval = '1s'
# In the data folder. The default leaves files in /dev/shm when a server is killed.
dynamic_shared_memory_type = mmap
lc_messages = 'C'
log_line_prefix = '%m [%p] %q%a '
";

/// The harness sets these itself, and would not work with other values.
const RESERVED: [&str; 11] = [
    "cluster_name",
    "config_file",
    "data_directory",
    "hba_file",
    "listen_addresses",
    "logging_collector",
    "port",
    "primary_conninfo",
    "primary_slot_name",
    "recovery_min_apply_delay",
    "unix_socket_directories",
];

/// The settings requested by the user, the same on all nodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    pub(super) durable: bool,
    pub(super) custom: Vec<(String, String)>,
}

/// The node that a node receives its log from.
#[derive(Clone, Debug)]
pub(super) struct Upstream {
    pub(super) conninfo: String,
    pub(super) slot: String,
    pub(super) delay: Duration,
}

impl Settings {
    pub(super) fn check(&self) -> Result<()> {
        for (name, value) in &self.custom {
            let plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '.');
            if name.is_empty() || !name.chars().all(plain) {
                return Err(Error::configuration(format!(
                    "{name:?} is no name of a PostgreSQL setting; pass one such as work_mem"
                )));
            }
            if RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
                return Err(Error::configuration(format!(
                    "the setting {name} belongs to the test cluster itself; leave it out"
                )));
            }
            if value.contains(['\n', '\r', '\0']) {
                return Err(Error::configuration(format!("the value of {name} has more than one line: {value:?}")));
            }
        }
        Ok(())
    }

    pub(super) fn render(&self, upstream: Option<&Upstream>) -> String {
        let mut text = COMMON.to_owned();
        // full_page_writes stays on: a killed server can leave a half-written page even if the system survives.
        line(&mut text, "fsync", if self.durable { "on" } else { "off" });
        if let Some(Upstream { conninfo, slot, delay }) = upstream {
            line(&mut text, "primary_conninfo", conninfo);
            line(&mut text, "primary_slot_name", slot);
            line(&mut text, "recovery_min_apply_delay", &delay.as_millis().to_string());
        }
        for (name, value) in &self.custom {
            line(&mut text, name, value);
        }
        text
    }
}

fn line(text: &mut String, name: &str, value: &str) {
    let value = value.replace('\\', "\\\\").replace('\'', "''");
    writeln!(text, "{name} = '{value}'").expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(name: &str, value: &str) -> Settings {
        Settings { durable: false, custom: vec![(name.to_owned(), value.to_owned())] }
    }

    #[test]
    fn settings_that_break_the_config_file_or_harness_are_refused() {
        for (name, value) in [("", "1"), ("a b", "1"), ("x=1\ny", "1"), ("work_mem", "1\nport = 1"), ("Port", "1")] {
            settings(name, value).check().unwrap_err();
        }
        settings("synchronous_standby_names", "ANY 1 (*)").check().unwrap();
        settings("my.own", "x").check().unwrap();
    }

    #[test]
    fn values_are_quoted_and_the_users_come_last() {
        let text = settings("fsync", r"it's \n").render(None);
        let (ours, users) = (text.find("fsync = 'off'").unwrap(), text.find(r"fsync = 'it''s \\n'").unwrap());
        assert!(ours < users, "{text}");
    }
}
