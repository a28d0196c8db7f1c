//! Nothing of a cluster is left, however its process ends.
//!
//! Each test here is two processes: it runs itself once more with `PART` set, and the second process does the work.

use std::{
    env,
    io::{BufRead, BufReader},
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use mainstem::testing::{LocalCluster, Node};

/// Set in the second process.
const PART: &str = "MAINSTEM_TEST_PART";
const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn nothing_is_left_when_the_process_is_killed() {
    if env::var_os(PART).is_some() {
        let runtime = runtime();
        let cluster = runtime.block_on(LocalCluster::start()).unwrap();
        // Frozen processes do not notice by themselves that their server is gone.
        runtime.block_on(cluster.replica(0).freeze()).unwrap();
        let mut stubborn = start_stubborn_process(&cluster.primary().data_folder());
        report(&cluster);
        thread::park_timeout(LIMIT);
        stubborn.wait().unwrap();
        return;
    }
    let mut second = Second::start("nothing_is_left_when_the_process_is_killed");
    assert!(second.pids.iter().all(|pid| is_alive(*pid)), "{:?}", second.pids);
    second.process.kill().unwrap();
    second.process.wait().unwrap();
    second.assert_nothing_is_left();
}

#[test]
fn nothing_is_left_when_a_test_panics() {
    if env::var_os(PART).is_some() {
        let cluster = runtime().block_on(LocalCluster::start()).unwrap();
        report(&cluster);
        panic!("on purpose");
    }
    let mut second = Second::start("nothing_is_left_when_a_test_panics");
    assert!(!second.finish().success());
    second.assert_nothing_is_left();
}

#[test]
fn nothing_is_left_of_a_cluster_in_a_static_when_the_process_exits() {
    static CLUSTER: OnceLock<LocalCluster> = OnceLock::new();
    if env::var_os(PART).is_some() {
        let runtime = runtime();
        let cluster = CLUSTER.get_or_init(|| runtime.block_on(LocalCluster::start()).unwrap());
        // A killed server leaves its shared memory to whoever starts it again.
        runtime.block_on(cluster.replica(0).kill()).unwrap();
        report(cluster);
        return;
    }
    let mut second = Second::start("nothing_is_left_of_a_cluster_in_a_static_when_the_process_exits");
    assert!(second.finish().success());
    second.assert_nothing_is_left();
}

#[test]
fn a_dropped_cluster_is_gone_at_once() {
    let cluster = runtime().block_on(LocalCluster::builder().replicas(2).start()).unwrap();
    let folder = cluster.folder().to_path_buf();
    let pids = pids(&cluster);
    assert_eq!(pids.len(), 3);
    assert!(folder.is_dir() && pids.iter().all(|pid| is_alive(*pid)));
    let start = Instant::now();
    drop(cluster);
    eprintln!("dropped in {:?}", start.elapsed());
    assert!(!folder.exists());
    assert!(!pids.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn nothing_is_left_of_a_start_that_is_given_up() {
    // In a second process, which has no other clusters: its folder for temporary files tells whether one is left.
    if env::var_os(PART).is_some() {
        let start = async { tokio::time::timeout(Duration::from_millis(150), LocalCluster::start()).await };
        assert!(runtime().block_on(start).is_err(), "a start cannot be that fast");
        let error = runtime().block_on(LocalCluster::builder().setting("work_mem", "none").start()).unwrap_err();
        println!("error {}", error.kind() == mainstem::ErrorKind::Unavailable);
        return;
    }
    let place = tempfile_for_everybody();
    let test = "nothing_is_left_of_a_start_that_is_given_up";
    let output = again(test).env("TMPDIR", &place).stdout(Stdio::piped()).output().unwrap();
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("error true"), "{output:?}");
    let left: Vec<PathBuf> = std::fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()).collect();
    std::fs::remove_dir_all(&place).unwrap();
    assert!(left.is_empty(), "{left:?}");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn pids(cluster: &LocalCluster) -> Vec<u32> {
    cluster.nodes().iter().filter_map(Node::pid).collect()
}

/// A process of a server, as an archive command would be, which does not obey and ends by itself only after a minute.
fn start_stubborn_process(data: &Path) -> Child {
    let owner = std::fs::metadata(data).expect("a data folder");
    let script = "trap '' HUP INT QUIT TERM; i=0; while [ $i -lt 60 ]; do sleep 1; i=$((i + 1)); done";
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(data).uid(owner.uid()).gid(owner.gid());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("a process of the servers' user")
}

/// The id of the server's segment of System V shared memory, which outlives a server that is killed.
fn shared_memory(node: &Node) -> Option<String> {
    let text = std::fs::read_to_string(node.data_folder().join("postmaster.pid"))
        .expect("a file of a server that was started");
    text.lines().nth(6)?.split_whitespace().nth(1).map(str::to_owned)
}

/// From the second process to the first.
fn report(cluster: &LocalCluster) {
    let pids: Vec<String> = pids(cluster).iter().map(u32::to_string).collect();
    let segments: Vec<String> = cluster.nodes().iter().filter_map(shared_memory).collect();
    println!("\nreport\n{}\n{}\n{}", cluster.folder().display(), pids.join(" "), segments.join(" "));
}

fn again(test: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["--exact", &format!("local_cluster_end::{test}"), "--nocapture"]).env(PART, "second");
    command
}

struct Second {
    process: Child,
    folder: PathBuf,
    pids: Vec<u32>,
    segments: Vec<String>,
}

impl Second {
    fn start(test: &str) -> Self {
        let mut process = again(test).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the second process");
        let mut lines =
            BufReader::new(process.stdout.take().expect("its output")).lines().map(|line| line.expect("a line"));
        lines.by_ref().find(|line| line == "report").expect("a report: does the test's name fit?");
        let folder = PathBuf::from(lines.next().expect("a folder"));
        let pids =
            lines.next().expect("process ids").split(' ').map(|pid| pid.parse().expect("a process id")).collect();
        let segments = lines.next().expect("shared memory").split(' ').map(str::to_owned).collect();
        // The rest has to be read, or the second process breaks on its closed output.
        thread::spawn(move || lines.for_each(drop));
        Self { process, folder, pids, segments }
    }

    fn finish(&mut self) -> ExitStatus {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.process.try_wait().expect("its status") {
                return status;
            }
            assert!(Instant::now() < deadline, "the second process does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn assert_nothing_is_left(&self) {
        assert!(!self.pids.is_empty());
        let start = Instant::now();
        while self.folder.exists() || self.pids.iter().any(|pid| is_alive(*pid)) || works_in(&self.folder) {
            assert!(start.elapsed() < LIMIT, "left: {} or one of {:?}", self.folder.display(), self.pids);
            thread::sleep(Duration::from_millis(5));
        }
        eprintln!("gone after {:?}", start.elapsed());
        assert_eq!(self.segments.len(), 2);
        // Linux lists them here.
        let left = std::fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
        let left: Vec<&str> = left.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
        assert!(
            !self.segments.iter().any(|segment| left.contains(&segment.as_str())),
            "{:?} in {left:?}",
            self.segments
        );
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        // For a test that failed before.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A folder that also the user may use who runs the servers when this runs as root.
fn tempfile_for_everybody() -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let place = env::temp_dir().join(format!("mainstem-test-{}", std::process::id()));
    std::fs::create_dir(&place).expect("a new folder");
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o1777)).expect("its permissions");
    place
}

fn is_alive(pid: u32) -> bool {
    let output = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().expect("the output of ps");
    let state = String::from_utf8(output.stdout).expect("text");
    // A zombie waits for a parent that may never ask.
    !state.trim().is_empty() && !state.starts_with('Z')
}

/// Whether any process, such as a server's child, still has the folder for its working folder; where /proc tells.
fn works_in(folder: &Path) -> bool {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| std::fs::read_link(process.path().join("cwd")).ok())
        .any(|cwd| cwd.starts_with(folder))
}
