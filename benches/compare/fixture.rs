//! A filled database cluster, kept between runs.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Instant,
};

use mainstem::testing::{LocalCluster, Programs};

use crate::{Outcome, args::Args, fill, library::Library};

/// What the fixture depends on besides its name: when one of these files changes, it is created again.
const SOURCES: [&str; 4] = [
    include_str!("library.rs"),
    include_str!("fill.rs"),
    include_str!("sql/peers.sql"),
    include_str!("sql/fill_peers.sql"),
];

/// One database of a fixture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Database {
    pub(crate) name: &'static str,
    pub(crate) events: u64,
    /// Whether it has the other sides' tables.
    pub(crate) peers: bool,
    /// Each event has its copy as a tag, and no metadata: what the stores of `peers` have in common.
    pub(crate) tagged: bool,
}

/// The folder for clusters. It exists, and the user that the servers run as can use it.
pub(crate) fn place(args: &Args) -> Outcome<PathBuf> {
    let place = args.folder.join("run");
    fs::create_dir_all(&place).map_err(|error| format!("cannot create {}: {error}", place.display()))?;
    if fs::metadata(&place)?.uid() == 0 {
        // PostgreSQL does not run as root, so its files belong to another user.
        fs::set_permissions(&place, fs::Permissions::from_mode(0o1777))?;
    }
    Ok(place)
}

/// The saved cluster with these databases, created if it does not exist.
pub(crate) async fn saved(args: &Args, kind: &str, databases: &[Database]) -> Outcome<PathBuf> {
    let programs = Programs::find()?;
    let sizes: Vec<String> = databases.iter().map(|database| database.events.to_string()).collect();
    let name = format!("{kind}-pg{}-seed{}-{}-", programs.version(), args.seed, sizes.join("-"));
    let saved = args.folder.join(format!("{name}{:016x}", fingerprint()?));
    if saved.exists() {
        return Ok(saved);
    }
    let place = place(args)?;
    // Clusters of other versions of the schema or of this program; each takes gigabytes.
    for entry in fs::read_dir(&args.folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&name) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    eprintln!("making the fixture {}, which is kept for later runs", saved.display());
    let start = Instant::now();
    let builder = LocalCluster::builder().replicas(0).place(&place);
    let settings = [("shared_buffers", "1GB"), ("max_wal_size", "512MB"), ("autovacuum", "off")];
    let builder = settings.into_iter().fold(builder, |builder, (name, value)| builder.setting(name, value));
    let cluster = builder.start().await?;
    for database in databases {
        let primary = cluster.primary();
        let client = crate::server::connect(&primary.url()).await?;
        client.batch_execute(&format!("CREATE DATABASE {}", database.name)).await?;
        let library = Library::new(args.seed, database.events);
        fill::fill(&primary.url_for(database.name), &library, database).await?;
    }
    cluster.primary().stop().await?;
    let unfinished = args.folder.join(format!("unfinished-{}", std::process::id()));
    cluster.primary().save(&unfinished).await?;
    drop(cluster);
    fs::rename(&unfinished, &saved)?;
    eprintln!("the fixture is made, in {:.0?}", start.elapsed());
    Ok(saved)
}

fn fingerprint() -> Outcome<u64> {
    let mut hasher = DefaultHasher::new();
    SOURCES.hash(&mut hasher);
    let mut migrations: Vec<PathBuf> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    migrations.sort();
    for file in migrations {
        fs::read_to_string(file)?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}
