//! How a node gets its data: by initdb, by a base backup, or by rewinding what it has.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use crate::{Error, Result};

use super::{
    node::{Node, lock},
    ports,
    programs::{Programs, absolute},
    replay, scram,
    settings::Upstream,
};

/// For one run of initdb, pg_basebackup or pg_rewind.
const LIMIT: Duration = Duration::from_secs(120);

/// For one copy of a saved database cluster, which may have tens of gigabytes.
const COPY_LIMIT: Duration = Duration::from_secs(30 * 60);

/// The names in a saved folder.
const SAVED_DATA: &str = "data";
const SAVED_PASSWORD: &str = "password";

/// The password in a saved folder, if these programs can read the data in it.
pub(super) fn saved_password(folder: &Path, programs: &Programs) -> Result<String> {
    let read = |file: &Path| {
        fs::read_to_string(file).map_err(|error| {
            let message = format!("{} was not written by Node::save: cannot read {}", folder.display(), file.display());
            Error::configuration(message).with_source(error)
        })
    };
    let version = read(&folder.join(SAVED_DATA).join("PG_VERSION"))?;
    if version.trim() != programs.version().to_string() {
        return Err(Error::configuration(format!(
            "the data in {} is of PostgreSQL {}, and the programs in {} have {}",
            folder.display(),
            version.trim(),
            programs.folder().display(),
            programs.version()
        )));
    }
    read(&folder.join(SAVED_PASSWORD))
}

impl Node {
    /// Creates a new, empty database cluster here.
    ///
    /// A copy of an earlier one would save half a second, but all copies have the same system identifier, and it would
    /// be impossible to test that servers of different clusters are told apart.
    pub(super) async fn initdb(&self) -> Result<()> {
        self.create_folder()?;
        let environment = &self.shared.environment;
        let password_file = self.folder.join("password");
        self.write_file(&password_file, &scram::verifier(&environment.password, &ports::random::<16>()?))?;
        let mut command = environment.command("initdb", &self.folder);
        command.arg("--pgdata").arg(self.data_folder()).arg("--pwfile").arg(&password_file).args([
            "--username=mainstem",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            // pg_rewind needs them.
            "--data-checksums",
            "--no-instructions",
        ]);
        if !self.shared.settings.durable {
            command.arg("--no-sync");
        }
        environment.run(command, LIMIT).await?;
        self.write_config(None)
    }

    /// Makes this node a replica of the current primary, which has not been started yet: a copy of its files is then a
    /// complete backup, and takes a fifth of the time of a base backup.
    pub(super) async fn copy_primary(&self) -> Result<()> {
        self.create_folder()?;
        self.copy(&self.shared.primary_data_folder(), &self.data_folder()).await
    }

    /// Copies the data of a saved database cluster.
    pub(super) async fn copy_saved(&self, saved: &Path) -> Result<()> {
        self.create_folder()?;
        self.copy(&saved.join(SAVED_DATA), &self.data_folder()).await?;
        self.write_config(None)
    }

    /// Saves the data of this node, which must be [stopped](Self::stop), and the cluster's password in a new folder.
    /// [`ClusterBuilder::begin_with`](super::ClusterBuilder::begin_with) starts another cluster from it. Save a
    /// primary: a replica's data would expect a primary to follow.
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration) if the node runs, or if the folder exists already or cannot
    /// be created; [`Unavailable`](crate::ErrorKind::Unavailable) or [`Timeout`](crate::ErrorKind::Timeout) if the data
    /// cannot be copied within half an hour. The folder is then incomplete.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the folder is incomplete.
    pub async fn save(&self, folder: &Path) -> Result<()> {
        let folder = &absolute(folder.to_owned());
        let _change = self.change.lock().await;
        if self.is_running() {
            return Err(
                Error::configuration("a server that runs cannot be saved; stop it first").with_node(self.name())
            );
        }
        let unusable =
            |error| Error::configuration(format!("cannot save the cluster in {}", folder.display())).with_source(error);
        fs::create_dir(folder).map_err(unusable)?;
        self.shared.environment.account.give(folder)?;
        self.copy(&self.data_folder(), &folder.join(SAVED_DATA)).await?;
        let password = folder.join(SAVED_PASSWORD);
        self.write_file(&password, "")?;
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).map_err(unusable)?;
        self.write_file(&password, &self.shared.environment.password)
    }

    async fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        let environment = &self.shared.environment;
        let mut command = environment.command_at("cp".into(), &self.folder);
        command.arg("-Rp").arg(from).arg(to);
        environment.run(command, COPY_LIMIT).await
    }

    pub(super) async fn base_backup(&self) -> Result<()> {
        let data = self.data_folder();
        if data.exists() {
            fs::remove_dir_all(&data).map_err(|error| {
                Error::configuration(format!("cannot remove {}", data.display())).with_source(error)
            })?;
        }
        let environment = &self.shared.environment;
        let mut command = environment.command("pg_basebackup", &self.folder);
        command.arg("--pgdata").arg(&data).arg("--dbname").arg(self.conninfo(false)).args([
            "--wal-method=stream",
            "--checkpoint=fast",
            "--slot",
            self.name(),
        ]);
        if !self.shared.settings.durable {
            command.arg("--no-sync");
        }
        environment.run(command, LIMIT).await
    }

    pub(super) async fn rewind(&self) -> Result<()> {
        let environment = &self.shared.environment;
        let mut command = environment.command("pg_rewind", &self.folder);
        command
            .arg("--target-pgdata")
            .arg(self.data_folder())
            .arg(format!("--config-file={}", self.config_file().display()))
            .arg(format!("--source-server={} dbname=postgres", self.conninfo(false)));
        if !self.shared.settings.durable {
            command.arg("--no-sync");
        }
        environment.run(command, LIMIT).await
    }

    /// Makes sure that the current primary keeps the log that this node needs.
    pub(super) async fn create_slot(&self) -> Result<()> {
        replay::create_slot(&self.shared.primary_url(), self.name()).await
    }

    /// Configures this node to follow the current primary.
    pub(super) fn follow(&self) -> Result<()> {
        self.write_config(Some(&self.upstream()))?;
        self.write_file(&self.data_folder().join("standby.signal"), "")
    }

    pub(super) fn upstream(&self) -> Upstream {
        Upstream { conninfo: self.conninfo(true), slot: self.name().to_owned(), delay: *lock(&self.delay) }
    }

    /// The programs get the password through their environment instead, where `ps` does not show it.
    fn conninfo(&self, with_password: bool) -> String {
        let shared = &self.shared;
        let name = self.name();
        let mut text =
            format!("host=127.0.0.1 port={} user=mainstem application_name={name}", shared.members.primary_port());
        if with_password {
            text.push_str(" password=");
            text.push_str(&shared.environment.password);
        }
        text
    }

    fn create_folder(&self) -> Result<()> {
        fs::create_dir(&self.folder).map_err(|error| {
            Error::configuration(format!("cannot create {}", self.folder.display())).with_source(error)
        })?;
        self.shared.environment.account.give(&self.folder)
    }
}
