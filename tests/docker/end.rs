//! The end of a cluster: nothing of it is left in the engine.

use std::{env, process::Command, time::Duration};

use mainstem::testing::{DockerCluster, TestCluster};

use crate::{engine_answers, replicated::until, started};

/// Says to a run of this program that it is the child of a test.
const CHILD: &str = "MAINSTEM_TEST_CHILD";

/// What the engine has of a cluster: its containers, those that have ended too, and its networks.
fn remains(id: &str) -> Vec<String> {
    let filter = format!("label=mainstem.cluster={id}");
    let lines = |arguments: &[&str]| {
        let output = Command::new("docker").args(arguments).args(["--filter", &filter]).output().expect("docker");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    [lines(&["ps", "--all", "--quiet"]), lines(&["network", "ls", "--quiet"])].concat()
}

/// Whether the engine still has a volume of this name.
fn has_volume(name: &str) -> bool {
    Command::new("docker").args(["volume", "inspect", name]).output().expect("docker").status.success()
}

/// The volumes of a container.
fn volumes(container: &str) -> Vec<String> {
    let format = "{{range .Mounts}}{{.Name}} {{end}}";
    let output = Command::new("docker").args(["inspect", "--format", format, container]).output().expect("docker");
    String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
}

/// The id is in the name of each container.
fn id(cluster: &DockerCluster) -> String {
    cluster.primary().container().split('-').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn dropped_it_leaves_nothing() {
    if !engine_answers().await {
        return;
    }
    let cluster = started(DockerCluster::builder()).await;
    let id = id(&cluster);
    let volumes = volumes(cluster.primary().container());
    assert_eq!((remains(&id).len(), volumes.is_empty()), (3, false));
    drop(cluster);
    assert_eq!(remains(&id), [""; 0]);
    assert!(!volumes.iter().any(|volume| has_volume(volume)), "{volumes:?}");
}

#[test]
fn it_ends_with_a_panic_outside_of_any_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let Some(cluster) = runtime.block_on(async {
        if engine_answers().await { Some(started(DockerCluster::builder().replicas(0)).await) } else { None }
    }) else {
        return;
    };
    drop(runtime);
    let id = id(&cluster);
    let test = std::thread::spawn(move || {
        let _cluster = cluster;
        panic!("a test that fails");
    });
    test.join().unwrap_err();
    assert_eq!(remains(&id), [""; 0]);
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_nothing() {
    if !engine_answers().await {
        return;
    }
    let before = remains_of_all();
    for milliseconds in [1, 300, 1500] {
        let start = DockerCluster::builder().start();
        assert!(tokio::time::timeout(Duration::from_millis(milliseconds), start).await.is_err());
    }
    // Other tests start and end clusters meanwhile: what is here now is of theirs, and goes, too.
    until("the end of all that was begun", async || {
        let now = remains_of_all();
        tokio::time::sleep(Duration::from_millis(500)).await;
        now.iter().all(|left| before.contains(left) || !remains_of_all().contains(left))
    })
    .await;
}

fn remains_of_all() -> Vec<String> {
    let output = Command::new("docker").args(["ps", "--all", "--quiet", "--filter", "label=mainstem.cluster"]).output();
    String::from_utf8(output.expect("docker").stdout).unwrap().lines().map(str::to_owned).collect()
}

/// As a test program that keeps its cluster in a `static` and is killed.
#[tokio::test]
async fn a_process_that_is_killed_leaves_nothing() {
    if !engine_answers().await {
        return;
    }
    if env::var_os(CHILD).is_some() {
        let cluster = started(DockerCluster::builder().replicas(0)).await;
        println!("cluster:{}:", id(&cluster));
        std::mem::forget(cluster);
        std::process::abort();
    }
    let name = "end::a_process_that_is_killed_leaves_nothing";
    let program = env::current_exe().unwrap();
    let mut child = tokio::process::Command::new(program);
    child.args(["--exact", name, "--nocapture"]).env(CHILD, "1");
    let output = tokio::time::timeout(Duration::from_secs(180), child.output()).await.expect("in time").unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let id = text.split("cluster:").nth(1).and_then(|rest| rest.split(':').next());
    let id = id.unwrap_or_else(|| panic!("no cluster: {text} {}", String::from_utf8_lossy(&output.stderr)));
    until("the end of what the process has left", async || remains(id).is_empty()).await;
}
