//! The end of a cluster: it leaves nothing in the engine.

use std::{env, process::Command, time::Duration};

use mainstem::testing::{DockerCluster, TestCluster};

use crate::{engine_answers, replicated::until, started};

/// Tells a run of this program that it is the child of a test.
const CHILD: &str = "MAINSTEM_TEST_CHILD";

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().expect("docker");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What the engine has of a cluster: its containers, including stopped ones, and its networks.
fn remains(id: &str) -> Vec<String> {
    let filter = format!("label=mainstem.cluster={id}");
    let containers = docker(&["ps", "--all", "--quiet", "--filter", &filter]);
    let networks = docker(&["network", "ls", "--quiet", "--filter", &filter]);
    [containers, networks].concat().lines().map(str::to_owned).collect()
}

/// Whether the engine still has a volume of this name.
fn has_volume(name: &str) -> bool {
    Command::new("docker").args(["volume", "inspect", name]).output().expect("docker").status.success()
}

/// The volumes of a container.
fn volumes(container: &str) -> Vec<String> {
    let format = "{{range .Mounts}}{{.Name}} {{end}}";
    docker(&["inspect", "--format", format, container]).split_whitespace().map(str::to_owned).collect()
}

/// The id is part of the name of each container.
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
fn a_docker_cluster_is_removed_after_a_panic_outside_any_runtime() {
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
    // A separate name for the image, to tell these containers from those of other tests.
    let image = env::var("MAINSTEM_POSTGRES_IMAGE").unwrap_or_else(|_| "postgres:18".to_owned());
    let own = format!("mainstem-given-up:{}", std::process::id());
    docker(&["tag", &image, &own]);
    let containers = || {
        let list = docker(&["ps", "--all", "--format", "{{.Image}} {{.Names}}"]);
        list.lines().filter(|line| line.starts_with(&own)).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut had_begun = false;
    for milliseconds in [1, 300, 1500, 4000] {
        let start = DockerCluster::builder().image(&own).start();
        let given_up = async {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            had_begun |= !containers().is_empty();
        };
        tokio::select! {
            biased;
            () = given_up => {}
            started = start => drop(started.unwrap_or_else(|error| panic!("no cluster: {}", error.report()))),
        }
    }
    assert!(had_begun, "all were given up before there was a container");
    until("the end of all that was begun", async || containers().is_empty()).await;
    docker(&["rmi", &own]);
}

/// Like a test program that keeps its cluster in a `static` and is killed.
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
