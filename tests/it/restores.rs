//! A primary restored from a backup, and callers that hold tokens, sessions, marks and checkpoints of what the restore lost.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use mainstem::{
    AppendCondition, Appended, Consistency, Consumer, Error, ErrorKind, EventStore, ExpectedVersion, Filter, History,
    LoadedStream, PostgresEventStore, Role, Router, Session, Start, Subscribe, Token,
    testing::{LocalCluster, Node},
    with_session,
};
use serde_json::json;
use tokio::{
    process::Command,
    time::{sleep, timeout},
};

use crate::{
    support::{event, started},
    tokens::reads,
};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(60);

/// Where a restore to a point in time ends.
const POINT: &str = "before_the_loss";

/// In which all events are.
const STREAM: &str = "all";

/// A primary whose log is archived, and a replica.
struct Rig {
    cluster: LocalCluster,
    router: Router,
    store: PostgresEventStore,
    backup: PathBuf,
}

/// What an application holds when the restore comes.
struct Held {
    kept: Appended,
    kept_place: Token,
    lost: Appended,
    lost_place: Token,
    /// In which the lost events were written.
    session: Session,
    /// A read that saw them.
    history: History,
    /// And a load of the stream.
    stream: LoadedStream,
}

impl Rig {
    async fn start() -> Self {
        let builder = LocalCluster::builder().replicas(1).setting("archive_mode", "on");
        // Beside the folder with the data, in which these commands run.
        let builder = builder.setting("archive_command", "mkdir -p ../archive && cp %p ../archive/%f");
        let cluster = started(builder).await;
        let router = router(&cluster).await;
        let store = PostgresEventStore::new(&router);
        store.migrate().await.unwrap();
        let backup = cluster.folder().join("backup");
        Self { cluster, router, store, backup }
    }

    async fn back_up(&self) {
        let program = self.cluster.programs().folder().join("pg_basebackup");
        let mut command = Command::new(program);
        command.arg("--pgdata").arg(&self.backup).arg("--dbname").arg(self.cluster.primary().url());
        run(command.args(["--checkpoint=fast", "--wal-method=stream", "--no-sync"])).await;
    }

    /// What is acknowledged here, and seen by a session and a read, is lost by the restore.
    async fn lose(&self, kept: Appended, kept_place: Token) -> Held {
        let session = Session::new();
        let lost = with_session(&session, async {
            append(&self.store).await;
            append(&self.store).await
        })
        .await;
        let lost_place = self.place().await;
        let history = self.store.query(&Filter::any_event()).await.unwrap();
        assert_eq!(history.len(), 3);
        let stream = self.store.load_stream(STREAM).await.unwrap();
        assert_eq!(stream.version(), 3);
        Held { kept, kept_place, lost, lost_place, session, history, stream }
    }

    async fn place(&self) -> Token {
        self.router.client().await.unwrap().token().await.unwrap()
    }

    async fn sql(&self, sql: &str) {
        self.router.client().await.unwrap().batch_execute(sql).await.unwrap();
    }

    /// Puts the backup in the place of the primary's data; with a target, what is archived is replayed up to that. The replica is made
    /// anew from it.
    async fn restore(&self, target: Option<&str>) {
        let (primary, replica) = (self.cluster.primary(), self.cluster.replica(0));
        replica.stop().await.unwrap();
        primary.stop().await.unwrap();
        let (data, old) = (primary.data_folder(), primary.data_folder().with_file_name("old"));
        fs::rename(&data, &old).unwrap();
        run(Command::new("cp").arg("-Rp").arg(&self.backup).arg(&data)).await;
        if let Some(target) = target {
            fs::write(data.join("recovery.signal"), "").unwrap();
            let settings = format!(
                "restore_command = 'cp ../archive/%f %p'\nrecovery_target_name = '{target}'\n\
                 recovery_target_action = 'promote'\n"
            );
            fs::write(data.join("postgresql.auto.conf"), settings).unwrap();
        }
        give(&old, &data).await;
        primary.start().await.unwrap();
        ends_recovery(primary).await;
        // What it has is of a history that has ended.
        fs::remove_dir_all(replica.data_folder()).unwrap();
        replica.rejoin().await.unwrap();
    }

    /// Waits until the router writes to what the primary is now.
    async fn is_found(&self) {
        let found = async {
            loop {
                let client = self.router.client().await;
                if let Ok(client) = client
                    && client.query_one("SELECT pg_is_in_recovery()", &[]).await.is_ok()
                    && self.router.client_at(Consistency::Eventual).await.is_ok_and(|it| it.role() == Role::Replica)
                {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(HANG, found).await.expect("the restored primary and its replica are used");
    }

    /// Nobody who holds what was lost is told that it is there, neither this router nor one that knows nothing; and what was
    /// kept is there. While the lost event's position is empty, and when it has another one.
    async fn judge(&self, held: &Held) {
        self.cluster.wait_until_caught_up().await.unwrap();
        for more in 0..3 {
            let new = router(&self.cluster).await;
            for (which, router) in [("old", &self.router), ("new", &new)] {
                let store = PostgresEventStore::new(router);
                self.judge_by(&store, held, &format!("{more} more, the {which} router")).await;
            }
            append(&self.store).await;
            self.cluster.wait_until_caught_up().await.unwrap();
        }
    }

    async fn judge_by(&self, store: &PostgresEventStore, held: &Held, when: &str) {
        let lost = &at_least(held.lost.token());
        for (kind, read) in reads(store, lost).await.into_iter().enumerate() {
            is_lost(read, &format!("read {kind}, {when}"));
        }
        let strong = with_session(&held.session, async { store.query(&Filter::any_event()).await });
        is_lost(strong.await, &format!("in its session, {when}"));
        is_lost(store.append([event("C", json!({}))], held.history.unchanged()).await, &format!("a condition, {when}"));
        let appended = store.append([event("C", json!({}))], AppendCondition::none());
        let error = appended.to_stream(STREAM, held.stream.unchanged()).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Conflict | ErrorKind::LogDiverged), "{when}: {}", error.report());
        let mark = held.history.last().unwrap().mark();
        let mut subscription = store.subscribe(&Filter::any_event()).start_at(Start::After(mark)).build();
        let ended = async {
            loop {
                match subscription.next_batch().await.expect("it does not end in silence") {
                    Ok(batch) => panic!("{} events, {when}", batch.len()),
                    Err(error) if error.is_retryable() => {}
                    Err(error) => return error,
                }
            }
        };
        let ended = timeout(HANG, ended).await.expect("the subscription says so");
        is_lost(Err::<(), _>(ended), &format!("a subscription, {when}"));
        for read in reads(store, &at_least(held.kept.token())).await {
            read.unwrap_or_else(|error| panic!("kept, {when}: {}", error.report()));
        }
    }
}

async fn router(cluster: &LocalCluster) -> Router {
    let builder = Router::builder().primary(cluster.primary().url()).replicas(cluster.replicas().map(Node::url));
    let builder = builder.probe_interval(Duration::from_millis(100)).replay_wait(Duration::from_millis(300));
    builder.connect().await.unwrap()
}

async fn append(store: &PostgresEventStore) -> Appended {
    let append = store.append([event("A", json!({}))], AppendCondition::none());
    append.to_stream(STREAM, ExpectedVersion::Any).await.unwrap()
}

fn at_least(token: &Token) -> Consistency {
    Consistency::AtLeast(token.clone())
}

#[track_caller]
fn is_lost<T>(outcome: Result<T, Error>, what: &str) {
    let error = outcome.err().unwrap_or_else(|| panic!("taken for there: {what}"));
    assert_eq!(error.kind(), ErrorKind::LogDiverged, "{what}: {}", error.report());
}

async fn run(command: &mut Command) {
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Gives the files to who has those of the other folder: root's are no use to the server.
async fn give(like: &Path, folder: &Path) {
    run(Command::new("chown").arg("-R").arg(format!("--reference={}", like.display())).arg(folder)).await;
}

async fn ends_recovery(primary: &Node) {
    let ended = async {
        while primary.is_in_recovery().await.unwrap_or(true) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(HANG, ended).await.expect("the end of recovery");
}

/// The first event that a consumer gets.
async fn first(consumer: &mut Consumer) -> Result<u64, Error> {
    let first = async {
        loop {
            match consumer.next_batch().await.expect("it goes on") {
                Ok(batch) if batch.is_empty() => drop(consumer.commit(&batch).await),
                Ok(batch) => return Ok(batch.events()[0].position()),
                Err(error) if error.is_retryable() || error.is_outcome_unknown() => {}
                Err(error) => return Err(error),
            }
        }
    };
    timeout(HANG, first).await.expect("an event or an error")
}

async fn handle_up_to(consumer: &mut Consumer, position: u64) {
    let handled = async {
        loop {
            let batch = consumer.next_batch().await.unwrap().unwrap();
            consumer.commit(&batch).await.unwrap();
            if batch.mark().position() == position {
                return;
            }
        }
    };
    timeout(HANG, handled).await.expect("the event");
}

fn consumer(store: &PostgresEventStore) -> Consumer {
    let builder = store.consumer("c", &Filter::any_event()).takeover(Duration::from_secs(2));
    builder.consistency(Consistency::Strong).build().unwrap()
}

#[tokio::test]
async fn writes_lost_in_a_point_in_time_restore_are_never_taken_as_present() {
    let rig = Rig::start().await;
    rig.back_up().await;
    let mut running = consumer(&rig.store);
    let kept = append(&rig.store).await;
    handle_up_to(&mut running, 1).await;
    let kept_place = rig.place().await;
    rig.sql(&format!("SELECT pg_create_restore_point('{POINT}')")).await;
    let held = rig.lose(kept, kept_place).await;
    // It has read what is lost, and its checkpoint is lost with that.
    handle_up_to(&mut running, 3).await;
    rig.restore(Some(POINT)).await;
    rig.is_found().await;
    assert_eq!(rig.router.status().timeline, Some(2));
    rig.judge(&held).await;
    // A place is a number, and on the new timeline it says nothing.
    for place in [&held.lost_place, &held.kept_place, held.lost.token()] {
        let error = rig.router.client_at(at_least(place)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unproven, "{}", error.report());
    }
    // The checkpoint is in the database, and so it is that of the restored log: nothing of the new history is passed over.
    assert_eq!(first(&mut running).await.unwrap(), 2, "a consumer that ran on");
    drop(running);
    assert_eq!(first(&mut consumer(&rig.store)).await.unwrap(), 2, "one that comes anew");
}

#[tokio::test]
async fn writes_lost_in_a_same_timeline_restore_are_never_taken_as_present() {
    let rig = Rig::start().await;
    let kept = append(&rig.store).await;
    let kept_place = rig.place().await;
    rig.back_up().await;
    // So that the restored log is not written as far again: its places could not be told from these.
    for _ in 0..3 {
        rig.sql("SELECT pg_logical_emit_message(false, 'mainstem', 'x')").await;
        rig.sql("SELECT pg_switch_wal()").await;
    }
    let held = rig.lose(kept, kept_place).await;
    rig.restore(None).await;
    rig.is_found().await;
    assert_eq!(rig.router.status().timeline, Some(1));
    let error = rig.router.client_at(at_least(&held.lost_place)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LogDiverged, "{}", error.report());
    rig.judge(&held).await;
    rig.router.client_at(at_least(&held.kept_place)).await.unwrap();
}
