//! Signals and process trees, through `sh` and `/proc` or `ps`: the crate has no unsafe code, and the standard library
//! sends no signals.

use std::{
    collections::HashMap,
    fs, io,
    path::Path,
    process::{Command, Stdio},
};

/// A process as the kernel lists it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    parent: u32,
    state: char,
}

impl Process {
    fn is_stopped(self) -> bool {
        self.state == 'T' || self.is_dead()
    }

    fn is_dead(self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// All processes of the machine at one moment.
#[derive(Debug)]
pub(super) struct Snapshot(HashMap<u32, Process>);

impl Snapshot {
    pub(super) fn take() -> io::Result<Self> {
        let processes: HashMap<u32, Process> =
            if Path::new("/proc/self/stat").exists() { from_proc()? } else { from_ps()? };
        Ok(Self(processes))
    }

    /// This process and all that descend from it, in the order of their numbers.
    pub(super) fn tree(&self, root: u32) -> Vec<u32> {
        let mut tree = vec![root];
        let mut next = 0;
        while let Some(&parent) = tree.get(next) {
            tree.extend(self.0.iter().filter(|(_, process)| process.parent == parent).map(|(pid, _)| *pid));
            next += 1;
        }
        tree.sort_unstable();
        tree
    }

    pub(super) fn is_stopped(&self, pid: u32) -> bool {
        self.0.get(&pid).is_none_or(|process| process.is_stopped())
    }

    /// A zombie is gone: it holds no port and no file.
    pub(super) fn is_gone(&self, pid: u32) -> bool {
        self.0.get(&pid).is_none_or(|process| process.is_dead())
    }
}

/// Sends a signal. Processes that have ended meanwhile are no error: a [`Snapshot`] shows what became of the others.
pub(super) fn send(signal: &str, pids: &[u32]) -> io::Result<()> {
    Command::new("sh")
        .args(["-c", "signal=$1; shift; for pid; do kill -s \"$signal\" \"$pid\"; done; :", "sh", signal])
        .args(pids.iter().map(u32::to_string))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map(drop)
}

fn from_proc() -> io::Result<HashMap<u32, Process>> {
    let mut processes = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process that has ended meanwhile no longer has a file.
        let Ok(text) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some(process) = parse_stat(&text) {
            processes.insert(pid, process);
        }
    }
    Ok(processes)
}

/// `PID (NAME) STATE PARENT …`, where the name may contain anything, including parentheses and blanks.
fn parse_stat(text: &str) -> Option<Process> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some(Process { parent: fields.next()?.parse().ok()?, state })
}

fn from_ps() -> io::Result<HashMap<u32, Process>> {
    let output = Command::new("ps").args(["-A", "-o", "pid=,ppid=,stat="]).stdin(Stdio::null()).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(parse_ps).collect())
}

fn parse_ps(line: &str) -> Option<(u32, Process)> {
    let mut fields = line.split_whitespace();
    let pid = fields.next()?.parse().ok()?;
    let parent = fields.next()?.parse().ok()?;
    Some((pid, Process { parent, state: fields.next()?.chars().next()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let process = parse_stat("12 (a) T 1 (b)) S 7 12 12 0").unwrap();
        assert_eq!((process.parent, process.state), (7, 'S'));
    }

    #[test]
    fn both_sources_know_this_process_and_its_child() {
        let mut child = Command::new("sh").args(["-c", "read _"]).stdin(Stdio::piped()).spawn().unwrap();
        for processes in [from_proc(), from_ps()] {
            let snapshot = Snapshot(processes.unwrap());
            assert!(snapshot.tree(std::process::id()).contains(&child.id()));
            assert!(!snapshot.is_gone(child.id()) && !snapshot.is_stopped(child.id()));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(Snapshot::take().unwrap().is_gone(child.id()));
    }
}
