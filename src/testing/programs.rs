//! Finds the PostgreSQL programs on this machine.
//!
//! `scripts/setup` looks in the same places in the same order; keep the two alike.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Error, Result};

/// The environment variable that names the folder of the PostgreSQL programs.
pub(super) const VARIABLE: &str = "MAINSTEM_PG_BIN";

const OLDEST: u32 = 15;
const NEWEST: u32 = 19;
const NEEDED: [&str; 4] = ["initdb", "postgres", "pg_basebackup", "pg_rewind"];

/// Where packagers put versions side by side; `*` is any folder there, `{}` the version.
const PLACES: [&str; 7] = [
    "/usr/lib/postgresql/{}/bin",
    "/usr/pgsql-{}/bin",
    "/opt/homebrew/opt/postgresql@{}/bin",
    "/usr/local/opt/postgresql@{}/bin",
    "/opt/homebrew/Cellar/postgresql@{}/*/bin",
    "/usr/local/Cellar/postgresql@{}/*/bin",
    "/Applications/Postgres.app/Contents/Versions/{}/bin",
];

/// The programs of one PostgreSQL version, 15 to 19, in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    folder: PathBuf,
    version: u32,
}

impl Programs {
    /// Finds the first programs on this machine: in the folder of the environment variable `MAINSTEM_PG_BIN`, else in
    /// `PATH`, else in the usual places of Debian, Red Hat, Homebrew and Postgres.app, the highest version first.
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration) if there are none, saying what was found where, and if
    /// `MAINSTEM_PG_BIN` is set but its folder is not usable: then no other place is tried.
    pub fn find() -> Result<Self> {
        Search::of_this_machine().first(None)
    }

    /// Finds the first programs of this major version.
    ///
    /// # Errors
    ///
    /// As [`find`](Self::find), also if only other versions are there, and if `MAINSTEM_PG_BIN` names another version.
    pub fn find_version(version: u32) -> Result<Self> {
        Search::of_this_machine().first(Some(version))
    }

    /// Uses the programs in this folder.
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration) if a program is missing there or the version is not one of
    /// 15 to 19.
    pub fn at(folder: impl Into<PathBuf>) -> Result<Self> {
        let folder = absolute(folder.into());
        examine(&folder, &ask_version).map_err(|reason| {
            Error::configuration(format!(
                "no usable PostgreSQL programs in {}: {reason}; pass the folder that has {}",
                folder.display(),
                NEEDED.join(", ")
            ))
        })
    }

    /// Finds programs of every version on this machine, one of each version, those that [`find`](Self::find) prefers
    /// first.
    #[must_use]
    pub fn all() -> Vec<Self> {
        Search::of_this_machine().all()
    }

    /// Returns the folder of the programs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the major version: 15 to 19.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// The programs run in other folders than this process.
pub(super) fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// Everything that the search depends on, so that tests can search a machine that does not exist.
struct Search<A> {
    variable: Option<PathBuf>,
    path: Vec<PathBuf>,
    root: PathBuf,
    ask_version: A,
}

impl Search<fn(&Path) -> io::Result<String>> {
    fn of_this_machine() -> Self {
        Self {
            // Set but empty is how a script says "not set".
            variable: env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(|value| absolute(value.into())),
            path: env::var_os("PATH").map(|path| env::split_paths(&path).map(absolute).collect()).unwrap_or_default(),
            root: PathBuf::from("/"),
            ask_version,
        }
    }
}

impl<A: Fn(&Path) -> io::Result<String>> Search<A> {
    fn first(&self, wanted: Option<u32>) -> Result<Programs> {
        let fits = |programs: &Programs| wanted.is_none_or(|wanted| wanted == programs.version);
        if let Some(folder) = &self.variable {
            let reason = match examine(folder, &self.ask_version) {
                Ok(programs) if fits(&programs) => return Ok(programs),
                Ok(programs) => format!("it has version {}", programs.version),
                Err(reason) => reason,
            };
            let wanted = wanted.map(|version| format!(" for version {version}")).unwrap_or_default();
            return Err(Error::configuration(format!(
                "{VARIABLE} is {}, which is not usable{wanted}: {reason}; set it to a folder that has {}, or unset it",
                folder.display(),
                NEEDED.join(", ")
            )));
        }
        let mut seen = Vec::new();
        for folder in self.folders() {
            match examine(&folder, &self.ask_version) {
                Ok(programs) if fits(&programs) => return Ok(programs),
                Ok(programs) => seen.push(format!("version {} in {}", programs.version, folder.display())),
                // A folder in PATH that has nothing to do with PostgreSQL is not worth mentioning.
                Err(_) if !NEEDED.iter().any(|name| folder.join(name).exists()) => {}
                Err(reason) => seen.push(format!("{} ({reason})", folder.display())),
            }
        }
        let wanted = wanted.map_or_else(|| format!("{OLDEST} to {NEWEST}"), |version| version.to_string());
        let seen = if seen.is_empty() { "nothing".to_owned() } else { seen.join(", ") };
        Err(Error::configuration(format!(
            "no PostgreSQL programs of version {wanted} on this machine; found: {seen}; \
             install them (in a checkout of mainstem: scripts/setup), or set {VARIABLE} to the folder that has {}",
            NEEDED.join(", ")
        )))
    }

    fn all(&self) -> Vec<Programs> {
        let mut found: Vec<Programs> = Vec::new();
        for folder in self.variable.iter().cloned().chain(self.folders()) {
            if let Ok(programs) = examine(&folder, &self.ask_version)
                && found.iter().all(|other| other.version != programs.version)
            {
                found.push(programs);
            }
        }
        found
    }

    fn folders(&self) -> Vec<PathBuf> {
        let mut folders = self.path.clone();
        for place in PLACES {
            for version in (OLDEST..=NEWEST).rev() {
                let place = place.replace("{}", &version.to_string());
                let place = self.root.join(place.trim_start_matches('/'));
                folders.extend(expand(&place));
            }
        }
        folders
    }
}

/// The folders that match a path with at most one `*`, the last name first.
fn expand(pattern: &Path) -> Vec<PathBuf> {
    let text = pattern.to_string_lossy();
    let Some((parent, rest)) = text.split_once("/*/") else { return vec![pattern.to_path_buf()] };
    let mut folders: Vec<PathBuf> =
        fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path().join(rest)).collect();
    folders.sort();
    folders.reverse();
    folders
}

fn examine(folder: &Path, ask_version: &impl Fn(&Path) -> io::Result<String>) -> Result<Programs, String> {
    let missing: Vec<&str> = NEEDED.into_iter().filter(|name| !folder.join(name).is_file()).collect();
    if !missing.is_empty() {
        return Err(format!("{} missing", missing.join(", ")));
    }
    let postgres = folder.join("postgres");
    let text = ask_version(&postgres).map_err(|error| format!("{} --version: {error}", postgres.display()))?;
    let version = parse_version(&text).ok_or_else(|| format!("{} --version printed {text:?}", postgres.display()))?;
    if !(OLDEST..=NEWEST).contains(&version) {
        return Err(format!("version {version}, and {OLDEST} to {NEWEST} are supported"));
    }
    Ok(Programs { folder: folder.to_path_buf(), version })
}

fn ask_version(postgres: &Path) -> io::Result<String> {
    let output = Command::new(postgres).arg("--version").output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The major version in `postgres (PostgreSQL) 18.4 (Debian 18.4-1)`, `… 19rc1` or `… 19devel`.
fn parse_version(text: &str) -> Option<u32> {
    let number = text.split(") ").nth(1)?;
    let digits = number.find(|character: char| !character.is_ascii_digit()).unwrap_or(number.len());
    number[..digits].parse().ok()
}

#[cfg(test)]
#[path = "programs_tests.rs"]
mod tests;
