//! The location of a cluster's files: in memory if there is room, which makes a start three times as fast.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::{Error, Result};

/// Where Linux has a file system in memory.
const MEMORY: &str = "/dev/shm";

/// A few clusters at a time, each node 40 MB when new and up to some hundred with its log. Containers have 64 MB there
/// unless told otherwise.
const ROOM: u64 = 2 << 30;

pub(super) fn create(durable: bool, asked_for: Option<&Path>) -> Result<TempDir> {
    let (place, advice) = match asked_for {
        Some(asked_for) => (asked_for.to_path_buf(), "choose a place"),
        None => (place(durable, env::var_os("TMPDIR").map(PathBuf::from), Path::new(MEMORY)), "set TMPDIR to a folder"),
    };
    tempfile::Builder::new().prefix("mainstem-").tempdir_in(&place).map_err(|error| {
        Error::configuration(format!("cannot create a folder in {}; {advice} where that is possible", place.display()))
            .with_source(error)
    })
}

/// Requests for a disk or a named folder are honoured.
fn place(durable: bool, named: Option<PathBuf>, memory: &Path) -> PathBuf {
    match named {
        Some(named) if !named.as_os_str().is_empty() => named,
        _ if !durable && available(memory).is_some_and(|bytes| bytes >= ROOM) => memory.to_path_buf(),
        _ => env::temp_dir(),
    }
}

/// The standard library does not report it, and the columns of `df -P` are standard.
fn available(folder: &Path) -> Option<u64> {
    if !folder.is_dir() {
        return None;
    }
    let output = Command::new("df").args(["-P", "-k"]).arg(folder).output().ok()?;
    parse_available(&String::from_utf8_lossy(&output.stdout))
}

fn parse_available(text: &str) -> Option<u64> {
    let kibibytes: u64 = text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_is_the_fourth_column() {
        let text = "Filesystem     1024-blocks  Used Available Capacity Mounted on\ntmpfs 65536 1 65535 1% /dev/shm\n";
        assert_eq!(parse_available(text), Some(65535 * 1024));
        assert_eq!(parse_available(""), None);
    }

    #[test]
    fn memory_is_used_only_where_nobody_asked_for_something_else() {
        let named = PathBuf::from("/named");
        let nowhere = Path::new("/there/is/no/such/folder");
        assert_eq!(place(false, Some(named.clone()), Path::new("/")), named);
        assert_eq!(place(false, None, nowhere), env::temp_dir());
        // Any folder with room stands for the file system in memory.
        let room = Path::new("/");
        if available(room).is_some_and(|bytes| bytes >= ROOM) {
            assert_eq!(place(false, None, room), room);
        }
        assert_eq!(place(true, None, room), env::temp_dir());
    }
}
