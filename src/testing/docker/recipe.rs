//! The container of a node: as in `docker-compose.yml`, with the same scripts, and with the settings for tests.

use std::{collections::HashMap, env, path::Path};

use testcontainers_modules::testcontainers::{
    ContainerRequest, CopyTargetOptions, GenericImage, ImageExt,
    bollard::models::{HostConfig, Mount, MountTypeEnum, PortBinding},
    core::IntoContainerPort,
};

use super::{super::settings::Settings, engine::LABEL, image::Image};

/// The port inside of the container.
const SERVER_PORT: u16 = 5432;
const FOLDER: &str = "/etc/mainstem";
/// Inside a volume, since a container's own file system is slow.
const VOLUME: &str = "/var/lib/postgresql";
const SHARED_MEMORY: u64 = 256 << 20;
const EXECUTABLE: u32 = 0o755;
const READABLE: u32 = 0o644;

/// The file from which `primary-init.sh` makes each server read its settings: those of every node, then those of tests.
const SETTINGS_FILE: &str = "cluster.conf";

/// What all nodes of a cluster have in common.
pub(super) struct Recipe {
    pub(super) cluster: String,
    pub(super) image: Image,
    pub(super) settings: Settings,
    pub(super) password: String,
    /// The primary needs a slot for each.
    pub(super) replicas: Vec<String>,
}

impl Recipe {
    pub(super) fn network(&self) -> String {
        format!("mainstem-{}", self.cluster)
    }

    /// It is also the name by which the other nodes reach it.
    pub(super) fn container(&self, node: &str) -> String {
        // A host name must not contain an underscore.
        format!("mainstem-{}-{}", self.cluster, node.replace('_', "-"))
    }

    /// The container of a node that becomes a primary.
    pub(super) fn primary(&self, node: &str, port: u16) -> ContainerRequest<GenericImage> {
        self.node(node, port, None)
            .with_cmd([&["postgres".to_owned()][..], &arguments(node)].concat())
            .with_env_var("POSTGRES_USER", "mainstem")
            .with_env_var("POSTGRES_DB", "postgres")
            // As the databases of `LocalCluster`. Test data need not survive a crash of the machine.
            .with_env_var(
                "POSTGRES_INITDB_ARGS",
                "--auth=scram-sha-256 --data-checksums --locale=C --encoding=UTF8 --no-sync",
            )
            .with_env_var("REPLICATION_SLOTS", self.replicas.join(" "))
            .with_env_var("NODE_CONF", format!("{FOLDER}/{SETTINGS_FILE}"))
            .with_copy_to(
                CopyTargetOptions::new("/docker-entrypoint-initdb.d/10-mainstem.sh").with_mode(EXECUTABLE),
                include_bytes!("../../../replication/primary-init.sh").to_vec(),
            )
    }

    /// The container of a node that takes a base backup from another one and follows it.
    pub(super) fn replica(&self, node: &str, port: u16, primary: &str) -> ContainerRequest<GenericImage> {
        let command = ["docker-entrypoint.sh".to_owned(), "postgres".to_owned()];
        self.node(node, port, Some("replica-entrypoint.sh"))
            .with_cmd([&command[..], &arguments(node)].concat())
            .with_env_var("PRIMARY_HOST", self.container(primary))
            .with_env_var("REPLICA_NAME", node)
            .with_copy_to(
                CopyTargetOptions::new(format!("{FOLDER}/replica-entrypoint.sh")).with_mode(EXECUTABLE),
                include_bytes!("../../../replication/replica-entrypoint.sh").to_vec(),
            )
    }

    fn node(&self, node: &str, port: u16, entrypoint: Option<&str>) -> ContainerRequest<GenericImage> {
        let readable = |name: &str| CopyTargetOptions::new(format!("{FOLDER}/{name}")).with_mode(READABLE);
        let settings = format!("include 'node.conf'\n{}", self.settings.render(None));
        let mut image = GenericImage::new(&self.image.name, &self.image.tag);
        if let Some(entrypoint) = entrypoint {
            image = image.with_entrypoint(&format!("{FOLDER}/{entrypoint}"));
        }
        image
            .with_container_name(self.container(node))
            .with_label(LABEL, &self.cluster)
            .with_network(self.network())
            // Fixed: otherwise it would change with each start.
            .with_mapped_port(port, SERVER_PORT.tcp())
            .with_user("postgres")
            .with_cap_drop("ALL")
            .with_security_opt("no-new-privileges:true")
            .with_shm_size(SHARED_MEMORY)
            .with_env_var("PGDATA", format!("{VOLUME}/mainstem"))
            .with_env_var("POSTGRES_PASSWORD", &self.password)
            .with_env_var("REPLICATOR_PASSWORD", &self.password)
            .with_copy_to(readable("node.conf"), include_bytes!("../../../replication/node.conf").to_vec())
            .with_copy_to(readable("pg_hba.conf"), include_bytes!("../../../replication/pg_hba.conf").to_vec())
            .with_copy_to(readable(SETTINGS_FILE), settings.into_bytes())
            .with_host_config_modifier(move |host| {
                // Unnamed: it is removed with its container.
                host.mounts = Some(vec![Mount {
                    target: Some(VOLUME.to_owned()),
                    typ: Some(MountTypeEnum::VOLUME),
                    ..Mount::default()
                }]);
                if engine_is_here() {
                    publish_on_loopback(host, port);
                }
            })
    }
}

/// The command line of each server, as in the compose file.
fn arguments(node: &str) -> Vec<String> {
    let settings = [format!("cluster_name={node}"), format!("hba_file={FOLDER}/pg_hba.conf")];
    settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]).collect()
}

/// Whether 127.0.0.1 is the same machine for the engine as for this process.
fn engine_is_here() -> bool {
    let elsewhere = env::var("DOCKER_HOST").is_ok_and(|host| !host.is_empty() && !host.starts_with("unix:"));
    !elsewhere && !Path::new("/.dockerenv").exists()
}

/// The servers of a test must not be reachable from the network.
fn publish_on_loopback(host: &mut HostConfig, port: u16) {
    let binding = PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: Some(port.to_string()) };
    host.port_bindings = Some(HashMap::from([(format!("{SERVER_PORT}/tcp"), Some(vec![binding]))]));
}
