//! Runs a case under callgrind, and reads its count.

use std::{process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

use crate::{COUNTED, Outcome, cases::Case};

/// The limit of one run; two to ten seconds are usual.
const LIMIT: Duration = Duration::from_secs(180);

/// Otherwise the C library copies more than some kilobytes with one instruction, which counts as one for each byte.
const NO_COPY_BY_BYTES: (&str, &str) = ("GLIBC_TUNABLES", "glibc.cpu.x86_rep_movsb_threshold=1073741824");

/// The start of callgrind's last line.
const COLLECTED: &str = "Collected : ";

pub(crate) async fn check() -> Outcome {
    let version = Command::new("valgrind").arg("--version").output().await;
    match version {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err("Valgrind is missing; on Debian and Ubuntu: apt-get install valgrind".into()),
    }
}

/// The instructions of one run of the case.
pub(crate) async fn count(case: Case, nodes: &[String; 3]) -> Outcome<u64> {
    let (few, times) = (case.times() / 10, case.times());
    let (short, long) = (collect(case, few, nodes).await?, collect(case, few + times, nodes).await?);
    Ok(long.saturating_sub(short) / times)
}

async fn collect(case: Case, times: u64, nodes: &[String; 3]) -> Outcome<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.arg(std::env::current_exe()?).arg(COUNTED).arg(case.name()).arg(times.to_string()).args(nodes);
    command.env(NO_COPY_BY_BYTES.0, NO_COPY_BY_BYTES.1);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(LIMIT, command.output()).await.map_err(|_| format!("{} takes {LIMIT:?}", case.name()))??;
    let told = String::from_utf8_lossy(&output.stderr);
    let collected = told.lines().find_map(|line| line.split_once(COLLECTED));
    match collected {
        Some((_, count)) if output.status.success() => Ok(count.trim().parse()?),
        _ => Err(format!("{} has ended with {}:\n{told}", case.name(), output.status).into()),
    }
}
