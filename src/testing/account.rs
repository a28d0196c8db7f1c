//! The unprivileged user that the servers run as: PostgreSQL refuses to run as root.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use crate::{Error, Result};

use super::programs::{Programs, VARIABLE};

/// The user that runs the servers.
#[derive(Clone, Debug)]
pub(super) enum Account {
    /// The user that runs the tests.
    Ours,
    /// Another user, because the tests run as root.
    Other { name: String, uid: u32, gid: u32 },
}

const READ_AND_EXECUTE: u32 = 0o5;
const WRITE_AND_EXECUTE: u32 = 0o3;
const EXECUTE: u32 = 0o1;

impl Account {
    /// Decides by the owner of a folder that this process has just created: that is its effective user, and the
    /// standard library has no other portable way to find it out.
    pub(super) fn for_owner_of(folder: &Path) -> Result<Self> {
        let metadata = fs::metadata(folder).map_err(|error| {
            Error::configuration(format!("cannot look at the new folder {}", folder.display())).with_source(error)
        })?;
        if metadata.uid() != 0 {
            return Ok(Self::Ours);
        }
        let users = fs::read_to_string("/etc/passwd").map_err(|error| {
            Error::configuration(
                "cannot read /etc/passwd to find a user that may run PostgreSQL; run as another user than root",
            )
            .with_source(error)
        })?;
        Self::unprivileged(&users).ok_or_else(|| {
            Error::configuration(
                "PostgreSQL does not run as root, and /etc/passwd has neither a user postgres nor nobody; \
                 add one of them, or run as another user than root",
            )
        })
    }

    fn unprivileged(users: &str) -> Option<Self> {
        ["postgres", "nobody"].into_iter().find_map(|wanted| {
            users.lines().find_map(|line| {
                let mut fields = line.split(':');
                let name = fields.next().filter(|name| *name == wanted)?.to_owned();
                let uid = fields.nth(1)?.parse().ok()?;
                let gid = fields.next()?.parse().ok()?;
                Some(Self::Other { name, uid, gid })
            })
        })
    }

    /// Makes a program run as this user. The standard library drops root's supplementary groups along with the uid.
    pub(super) fn apply(&self, command: &mut Command) {
        if let Self::Other { uid, gid, .. } = self {
            command.uid(*uid).gid(*gid);
        }
    }

    /// Makes this user the owner of a file or folder created by this process.
    pub(super) fn give(&self, path: &Path) -> Result<()> {
        let Self::Other { name, uid, gid } = self else { return Ok(()) };
        chown(path, Some(*uid), Some(*gid)).map_err(|error| {
            Error::configuration(format!("cannot give {} to user {name}", path.display())).with_source(error)
        })
    }

    /// Checks that this user can reach a folder in `parent`, and remove it at the end.
    pub(super) fn check_parent(&self, parent: &Path) -> Result<()> {
        let Self::Other { name, .. } = self else { return Ok(()) };
        self.check_way_to(parent).and_then(|()| self.check(parent, WRITE_AND_EXECUTE)).map_err(|obstacle| {
            Error::configuration(format!(
                "the servers run as user {name}, who cannot use the folder for temporary files {}: {obstacle}; \
                 set TMPDIR to a folder that everybody can use, such as /tmp",
                parent.display()
            ))
        })
    }

    /// Checks that this user can execute the programs.
    pub(super) fn check_programs(&self, programs: &Programs) -> Result<()> {
        let Self::Other { name, .. } = self else { return Ok(()) };
        let postgres = programs.program("postgres");
        self.check_way_to(&postgres).and_then(|()| self.check(&postgres, READ_AND_EXECUTE)).map_err(|obstacle| {
            Error::configuration(format!(
                "the servers run as user {name}, who cannot execute {}: {obstacle}; \
                 put the programs where everybody can read them, and set {VARIABLE} to that folder",
                postgres.display()
            ))
        })
    }

    fn check_way_to(&self, path: &Path) -> Result<(), String> {
        let path = path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))?;
        path.ancestors().skip(1).try_for_each(|folder| self.check(folder, EXECUTE))
    }

    /// Access lists beyond the mode bits are ignored: they are rare on the folders in question.
    fn check(&self, path: &Path, bits: u32) -> Result<(), String> {
        let Self::Other { uid, gid, .. } = self else { return Ok(()) };
        let metadata = fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let shift = match () {
            () if metadata.uid() == *uid => 6,
            () if metadata.gid() == *gid => 3,
            () => 0,
        };
        if (metadata.mode() >> shift) & bits == bits {
            return Ok(());
        }
        Err(format!("the permissions of {} are {:o}", path.display(), metadata.mode() & 0o7777))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65533:nobody:/:/bin/false\n";

    fn ids(account: Option<Account>) -> Option<(String, u32, u32)> {
        match account? {
            Account::Other { name, uid, gid } => Some((name, uid, gid)),
            Account::Ours => None,
        }
    }

    #[test]
    fn postgres_is_preferred_to_nobody() {
        assert_eq!(ids(Account::unprivileged(USERS)), Some(("nobody".to_owned(), 65534, 65533)));
        let more = format!("{USERS}postgres:x:101:104:,,,:/var/lib/postgresql:/bin/sh\n");
        assert_eq!(ids(Account::unprivileged(&more)), Some(("postgres".to_owned(), 101, 104)));
        assert!(Account::unprivileged("root:x:0:0:root:/root:/bin/sh\n").is_none());
    }

    #[test]
    fn a_folder_that_the_user_cannot_get_to_is_named() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o777)).unwrap();
        // An unused id, so that neither the owner's nor the group's bits apply.
        let account = Account::Other { name: "somebody".to_owned(), uid: 4_000_001, gid: 4_000_001 };
        fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o711)).unwrap();
        account.check_parent(&inner).unwrap();
        fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o710)).unwrap();
        let text = account.check_parent(&inner).unwrap_err().to_string();
        assert!(text.contains("somebody") && text.contains("710") && text.contains("TMPDIR"), "{text}");
        Account::Ours.check_parent(&inner).unwrap();
    }
}
