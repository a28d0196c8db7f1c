//! Files that the servers' user may read.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

/// Writes a file that only its folder's owner may read. It is written by renaming, so that nobody ever reads half of
/// it.
pub(crate) fn write(path: &Path, contents: &str) -> PathBuf {
    let new = path.with_extension("new");
    fs::write(&new, contents).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    let (user, group) = owner(path.parent().unwrap());
    chown(&new, Some(user), Some(group)).unwrap();
    fs::rename(new, path).unwrap();
    path.to_owned()
}

/// The user and the group.
pub(crate) fn owner(path: &Path) -> (u32, u32) {
    let owner = fs::metadata(path).unwrap();
    (owner.uid(), owner.gid())
}
