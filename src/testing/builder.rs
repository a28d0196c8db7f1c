//! What a cluster can be asked to be.

use std::path::PathBuf;

use crate::{Error, Result};

use super::{
    account::Account,
    cluster::{LocalCluster, Shared},
    create, folder, ports,
    programs::Programs,
    server::Environment,
    settings::Settings,
    watchdog::Watchdog,
};

/// Settings of a [`LocalCluster`], from [`LocalCluster::builder`].
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
    /// How many streaming replicas the primary has. Default: 1. Each takes 40 MB at first and a
    /// tenth of a second at the start; with 0, nothing about replication can be tested. At most 9: more than the servers' limits
    /// on replication allow.
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// The folder of the PostgreSQL programs. Default: those that [`Programs::find`] finds.
    pub fn programs(mut self, folder: impl Into<PathBuf>) -> Self {
        self.programs = Some(folder.into());
        self
    }

    /// The major version, 15 to 19. Default: the first that [`Programs::find`] finds. If it is not on the machine, the
    /// start fails.
    pub fn version(mut self, version: u32) -> Self {
        self.version = Some(version);
        self
    }

    /// A line for the `postgresql.conf` of every node, over what the cluster sets itself, for instance
    /// `.setting("synchronous_standby_names", "*")`. The last of a name counts. Default: none. A name or value that
    /// PostgreSQL refuses makes the start fail, with the server's words.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.custom.push((name.into(), value.into()));
        self
    }

    /// Whether servers wait until the disk has what they wrote (`fsync`). Default: false, since a test outlives no
    /// crash of the machine, and a server that is [killed](super::Node::kill) loses nothing either way. With true,
    /// every commit costs what it costs in production, and the files lie on the disk of the folder for temporary files
    /// and never in memory: for benchmarks. The start takes seconds on a slow disk.
    pub fn durable(mut self, durable: bool) -> Self {
        self.settings.durable = durable;
        self
    }

    /// The folder in which the cluster's own temporary folder is made, if it is not to be the usual one. It is there
    /// already, and the user that the servers run as can write in it. For a benchmark that says which disk it measures.
    pub fn place(mut self, folder: impl Into<PathBuf>) -> Self {
        self.place = Some(folder.into());
        self
    }

    /// Begins with a copy of what [`Node::save`](super::Node::save) has put into a folder, and with the passwords of
    /// then. Default: an empty database cluster. The programs must have the version that wrote it. What takes long to
    /// make, such as the data of a benchmark, is so made once.
    pub fn begin_with(mut self, folder: impl Into<PathBuf>) -> Self {
        self.saved = Some(folder.into());
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
    /// When the future is dropped, all that was started is ended.
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
