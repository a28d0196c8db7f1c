//! The settings of a local cluster.

use std::path::PathBuf;

use crate::{Error, Result};

use super::{
    account::Account,
    cluster::{LocalCluster, Shared},
    create, folder, ports,
    programs::{Programs, absolute},
    server::Environment,
    settings::Settings,
    watchdog::Watchdog,
};

/// Collects the settings of a [`LocalCluster`], from [`LocalCluster::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ClusterBuilder {
    replicas: usize,
    programs: Option<PathBuf>,
    version: Option<u32>,
    place: Option<PathBuf>,
    saved: Option<PathBuf>,
    settings: Settings,
}

impl Default for ClusterBuilder {
    fn default() -> Self {
        Self { replicas: 1, programs: None, version: None, place: None, saved: None, settings: Settings::default() }
    }
}

impl ClusterBuilder {
    /// Sets the number of streaming replicas. Default: 1. Each takes 40 MB at first, and a tenth of a second at the
    /// start; with 0, nothing about replication can be tested. At most 9: more would exceed the servers' limits on
    /// replication.
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// Sets the folder of the PostgreSQL programs. Default: the one that [`Programs::find`] finds.
    pub fn programs(mut self, folder: impl Into<PathBuf>) -> Self {
        self.programs = Some(folder.into());
        self
    }

    /// Sets the major version, 15 to 19. Default: the first that [`Programs::find`] finds. If it is not on the machine,
    /// the start fails.
    pub fn version(mut self, version: u32) -> Self {
        self.version = Some(version);
        self
    }

    /// Adds a line to the `postgresql.conf` of every node, overriding what the cluster sets itself, for instance
    /// `.setting("synchronous_standby_names", "*")`. The last value of a name counts. Default: none. If PostgreSQL
    /// rejects a name or value, the start fails with the server's message.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.custom.push((name.into(), value.into()));
        self
    }

    /// Sets whether servers wait until their writes are on disk (`fsync`). Default: false, since a test does not
    /// survive a crash of the machine anyway, and a server that is [killed](super::Node::kill) loses nothing either
    /// way. With true, every commit costs what it costs in production, and the files are on the disk of the temporary
    /// folder, never in memory: for benchmarks. The start takes seconds on a slow disk.
    pub fn durable(mut self, durable: bool) -> Self {
        self.settings.durable = durable;
        self
    }

    /// Sets the folder in which the cluster's temporary folder is created, instead of the usual one. It must exist, and
    /// the user that runs the servers must be able to write in it. For a benchmark that states which disk it measures.
    pub fn place(mut self, folder: impl Into<PathBuf>) -> Self {
        self.place = Some(folder.into());
        self
    }

    /// Starts with a copy of what [`Node::save`](super::Node::save) has saved in a folder, including its passwords.
    /// Default: an empty database cluster. The programs must have the version that wrote the data. Data that take long
    /// to create, such as those of a benchmark, are created only once this way.
    pub fn begin_with(mut self, folder: impl Into<PathBuf>) -> Self {
        self.saved = Some(absolute(folder.into()));
        self
    }

    /// Creates the servers in a temporary folder, starts them, and waits until the replicas follow the primary.
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration) if there are no programs, or something on the machine or in
    /// the settings is in the way; [`Unavailable`](crate::ErrorKind::Unavailable) or
    /// [`Timeout`](crate::ErrorKind::Timeout) if a server does not start, with the end of its log.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, everything that was started is ended.
    pub async fn start(self) -> Result<LocalCluster> {
        const MOST: usize = 9;
        if self.replicas > MOST {
            return Err(Error::configuration(format!("{} replicas are too many; use at most {MOST}", self.replicas)));
        }
        self.settings.check()?;
        let programs = match (&self.programs, self.version) {
            (Some(folder), _) => Programs::at(folder)?,
            (None, Some(version)) => Programs::find_version(version)?,
            (None, None) => Programs::find()?,
        };
        if let Some(version) = self.version.filter(|version| *version != programs.version()) {
            return Err(Error::configuration(format!(
                "version {version} is wanted, but the programs in {} have {}",
                programs.folder().display(),
                programs.version()
            )));
        }
        let password = match &self.saved {
            Some(saved) => create::saved_password(saved, &programs)?,
            None => ports::random_text()?,
        };
        let folder = folder::create(self.settings.durable, self.place.as_deref())?;
        let account = Account::for_owner_of(folder.path())?;
        account.check_programs(&programs)?;
        if let Some(parent) = folder.path().parent() {
            account.check_parent(parent)?;
        }
        account.give(folder.path())?;
        let watchdog = Watchdog::start(folder.path(), &account)?;
        // From here on the watchdog removes it.
        let folder = folder.keep();
        let environment = Environment { programs, account, password };
        let nodes = self.replicas + 1;
        let cluster = LocalCluster::new(Shared::new(folder, environment, self.settings, nodes), watchdog, nodes);
        cluster.create(self.saved.as_deref()).await?;
        Ok(cluster)
    }
}
