//! How a node comes to its data: by initdb, by a base backup, or by rewinding what it has.

use std::{fs, time::Duration};

use crate::{Error, Result};

use super::{
    node::{Node, lock},
    ports, scram,
    settings::Upstream,
    sql,
};

/// For one run of initdb, pg_basebackup or pg_rewind.
const LIMIT: Duration = Duration::from_secs(120);

impl Node {
    /// Makes a new, empty database cluster here.
    ///
    /// A copy of one made earlier would save half a second, but all copies have the same system identifier, and then
    /// nobody could test that servers of different clusters are told apart.
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

    /// Makes this node a replica of the current primary, which has not been started yet: a copy of its files is a whole
    /// backup then, and takes a fifth of the time of a base backup.
    pub(super) async fn copy_primary(&self) -> Result<()> {
        self.create_folder()?;
        let environment = &self.shared.environment;
        let mut command = environment.command_at("cp".into(), &self.folder);
        command.arg("-Rp").arg(self.shared.primary_data_folder()).arg(self.data_folder());
        environment.run(command, LIMIT).await
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
        let name = self.name();
        let primary = self.shared.primary_url();
        let statement = format!(
            "SELECT pg_create_physical_replication_slot('{name}', true) \
             WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{name}')"
        );
        sql::ask(&primary, name, &statement).await.map(drop)
    }

    /// Writes down that this node follows the current primary.
    pub(super) fn follow(&self) -> Result<()> {
        self.write_config(Some(&self.upstream()))?;
        self.write_file(&self.data_folder().join("standby.signal"), "")
    }

    pub(super) fn upstream(&self) -> Upstream {
        Upstream { conninfo: self.conninfo(true), slot: self.name().to_owned(), delay: *lock(&self.delay) }
    }

    /// The programs get the password in their environment instead, where `ps` does not show it.
    fn conninfo(&self, with_password: bool) -> String {
        let shared = &self.shared;
        let name = self.name();
        let mut text =
            format!("host=127.0.0.1 port={} user=mainstem application_name={name}", shared.port(shared.primary()));
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
