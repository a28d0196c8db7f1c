//! A standard error that nobody reads.

use mainstem::{EventStore, Filter};
use tempfile::TempDir;

use crate::support::{command, fill, log, ran, run};

/// What is said there is lost, and nothing else: scripts go by the exit status.
#[tokio::test]
async fn the_exit_status_is_the_commands_own() {
    let (_database, from, source) = log().await;
    fill(&source, "A", 3).await;
    let export = run(&from, &["export", "--primary"]).await.ok();
    let (_database, to, target) = log().await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("log").to_str().unwrap().to_owned();
    for (urls, args, status) in [
        (&[][..], &["--nonsense"][..], 2),
        (&[], &["export"], 2),
        (&to, &["export", "--primary"], 1),
        (&to, &["tail", "--after", "7"], 2),
        // The servers of tests are not made to last.
        (&to, &["doctor"], 20),
        (&to, &["migrate"], 0),
        (&to, &["import"], 0),
        (&to, &["export", "--primary", &file], 0),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = command(urls, args);
        command.stderr(writer);
        let ran = ran(command, &export).await;
        assert_eq!(ran.status, status, "{args:?}: {ran:#?}");
    }
    assert_eq!(*target.count(&Filter::any_event()).await.unwrap(), 3);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), export);
}
