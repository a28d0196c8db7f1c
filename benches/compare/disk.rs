//! The disk's fdatasync latency.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::fs::FileExt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use mainstem::testing::Programs;

use crate::Outcome;

/// The size of PostgreSQL's log pages.
const PAGE: usize = 8192;

/// How long an fdatasync takes on the disk of `folder`, measured by PostgreSQL's own program, or by ours if that is
/// missing.
pub(crate) async fn fdatasync(programs: &Programs, folder: &Path) -> Outcome<String> {
    let program = programs.folder().join("pg_test_fsync");
    let file = folder.join("fsync-test");
    let measure = move || {
        let outcome = match pg_test_fsync(&program, &file) {
            Ok(Some(line)) => Ok(format!("pg_test_fsync -s 1, one 8 kB write: {line}")),
            _ => {
                ours(&file).map(|micros| format!("no pg_test_fsync here; our own 8 kB write + fdatasync: {micros} µs"))
            }
        };
        let _ = fs::remove_file(&file);
        outcome
    };
    tokio::task::spawn_blocking(measure).await?
}

/// The program's first line about fdatasync. The rest of its measurements takes half a minute and is not needed.
fn pg_test_fsync(program: &Path, file: &Path) -> Outcome<Option<String>> {
    let mut command = Command::new(program);
    command.args(["-s", "1", "-f"]).arg(file).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let output = child.stdout.take().ok_or("no output")?;
    let words = |line: String| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines = BufReader::new(output).lines().map_while(Result::ok).map(words);
    let found = lines.into_iter().find(|line| line.starts_with("fdatasync") && line.contains("usecs"));
    child.kill()?;
    child.wait()?;
    Ok(found)
}

/// The median over a second.
fn ours(path: &Path) -> Outcome<u128> {
    let mut file = File::create(path)?;
    file.write_all(&[0; PAGE])?;
    file.sync_all()?;
    let start = Instant::now();
    let mut micros = Vec::new();
    while start.elapsed() < Duration::from_secs(1) {
        let before = Instant::now();
        file.write_all_at(&[0; PAGE], 0)?;
        file.sync_data()?;
        micros.push(before.elapsed().as_micros());
    }
    micros.sort_unstable();
    Ok(micros.get(micros.len() / 2).copied().unwrap_or_default())
}
