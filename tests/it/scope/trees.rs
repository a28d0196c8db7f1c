//! Random programs of scopes, tasks, panics and cancels, compared with a model: the scopes that are visible in the
//! source.
//!
//! A program is a block of nodes. The interpreter passes the model's expectation down explicitly, and at each step, and
//! in each destructor, compares it with what the scope says.

use std::{
    fmt::Write,
    future::{pending, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use super::program::{Block, Expected, Node, Setting, Task, program};
use futures_util::{FutureExt, future::join_all};
use mainstem::{InScope, Scope, current_consistency, with_consistency};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use tokio::{
    runtime::{Builder, Runtime},
    task::{JoinSet, spawn_blocking, yield_now},
};

/// The longest that one program may take: they take milliseconds, and one that hangs must not hang the tests.
const LIMIT: Duration = Duration::from_secs(10);

/// Of every thread that runs a program: a deep one, unoptimised, needs more than the 2 MiB of a test's thread.
const STACK: usize = 64 << 20;

#[derive(Default)]
struct Log {
    differences: Mutex<String>,
    observations: AtomicUsize,
    alive: AtomicUsize,
}

#[derive(Clone, Default)]
struct Context {
    log: Arc<Log>,
    may_panic: bool,
    may_hang: bool,
}

impl Context {
    fn observe(&self, expected: &Expected, place: impl std::fmt::Debug) {
        self.log.observations.fetch_add(1, Ordering::SeqCst);
        let observed = Expected::observed();
        // There are two ways to read the level, and they must agree.
        let levels_agree = Scope::current().consistency() == &current_consistency();
        if observed != *expected || !levels_agree {
            let mut differences = self.log.differences.lock().unwrap();
            writeln!(differences, "{place:?}: {observed:?} instead of {expected:?}").unwrap();
        }
    }
}

/// Observes in its destructor.
struct Sentinel {
    expected: Expected,
    context: Context,
}

impl Sentinel {
    fn new(expected: &Expected, context: &Context) -> Self {
        context.log.alive.fetch_add(1, Ordering::SeqCst);
        Self { expected: expected.clone(), context: context.clone() }
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.context.observe(&self.expected, "destructor");
        self.context.log.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

fn run(block: Block, expected: Expected, context: Context) -> Task {
    let sentinel = Sentinel::new(&expected, &context);
    async move {
        let _sentinel = sentinel;
        context.observe(&expected, "start");
        for node in block {
            step(node.clone(), &expected, &context).await;
            context.observe(&expected, node);
        }
    }
    .boxed()
}

async fn step(node: Node, expected: &Expected, context: &Context) {
    let inside = |setting: &Setting, block| setting.wrap(run(block, setting.model(expected), context.clone()));
    let here = |block| run(block, expected.clone(), context.clone());
    // A task of its own ends its panics, and must end by itself: nobody cancels it when its parent is cancelled.
    let in_task = Context { may_panic: true, may_hang: false, ..context.clone() };
    let cancelled = Context { may_hang: true, ..context.clone() };
    match node {
        Node::Yield => yield_now().await,
        Node::Panic if context.may_panic => resume_unwind(Box::new("on purpose")),
        Node::Hang if context.may_hang => pending().await,
        Node::Panic | Node::Hang => {}
        Node::Enter(setting, block) => inside(&setting, block).await,
        Node::Spawn { carried: true, block } => {
            let task = run(block, expected.clone(), in_task).in_current_scope();
            let _ = tokio::spawn(task).await;
        }
        Node::Spawn { carried: false, block } => {
            let _ = tokio::spawn(run(block, Expected::default(), in_task)).await;
        }
        Node::Blocking { carried, block } => {
            let scope = if carried { Scope::current() } else { Scope::new() };
            let inner = if carried { expected.clone() } else { Expected::default() };
            let task = move || {
                in_task.observe(&Expected::default(), "blocking thread");
                scope.run_sync(|| run_sync(block, &inner, &in_task));
            };
            let _ = spawn_blocking(task).await;
        }
        Node::Sync(setting, block) => {
            let (scope, inner) = (setting.scope(), setting.model(expected));
            scope.run_sync(|| run_sync(block, &inner, context));
        }
        Node::Join(blocks) => {
            join_all(blocks.into_iter().map(here)).await;
        }
        Node::Select { loser_first, winner, loser } => {
            let winner = here(winner);
            let loser = run(loser, expected.clone(), cancelled).then(|()| pending());
            if loser_first {
                tokio::select! { biased; () = loser => {}, () = winner => {} }
            } else {
                tokio::select! { biased; () = winner => {}, () = loser => {} }
            }
        }
        Node::Catch(block) => {
            let catching = Context { may_panic: true, ..context.clone() };
            let _ = AssertUnwindSafe(run(block, expected.clone(), catching)).catch_unwind().await;
        }
        Node::Abort { after, setting, block } => {
            let task = run(block, setting.model(expected), Context { may_hang: true, ..in_task });
            // A set, since it also aborts the task when this one is cancelled before it gets to it.
            let mut set = JoinSet::new();
            set.spawn(task.in_scope(setting.scope()).then(|()| pending::<()>()));
            for _ in 0..after {
                yield_now().await;
            }
            set.shutdown().await;
        }
        Node::Drop { polls, setting, elsewhere, block } => {
            let mut future = setting.wrap(run(block, setting.model(expected), cancelled));
            for _ in 0..polls {
                let polled = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
                if polled.is_ready() {
                    break;
                }
                yield_now().await;
            }
            elsewhere.scope().run_sync(|| drop(future));
        }
        Node::Move { made, level, polled, block } => {
            let mut inner = made.model(expected);
            inner.level = level.clone().unwrap_or(inner.level);
            let future = run(block, inner, context.clone());
            let future = made.scope().run_sync(|| match level {
                Some(level) => with_consistency(level, future),
                None => future.in_current_scope(),
            });
            polled.scope().run(future).await;
        }
    }
}

/// The part of the language that needs no executor.
fn run_sync(block: Block, expected: &Expected, context: &Context) {
    let _sentinel = Sentinel::new(expected, context);
    context.observe(expected, "start");
    for node in block {
        match node.clone() {
            Node::Panic if context.may_panic => resume_unwind(Box::new("on purpose")),
            Node::Enter(setting, block) | Node::Sync(setting, block) => {
                let (scope, inner) = (setting.scope(), setting.model(expected));
                scope.run_sync(|| run_sync(block, &inner, context));
            }
            Node::Catch(block) => {
                let catching = Context { may_panic: true, ..context.clone() };
                let sync = AssertUnwindSafe(|| run_sync(block, expected, &catching));
                let _ = catch_unwind(sync);
            }
            _ => {}
        }
        context.observe(expected, node);
    }
}

/// Runs programs on one runtime, so that a trace which one leaves is there for the next.
fn check(mut builder: Builder) {
    let threads = Context::default();
    let (parked, stopped) = (threads.clone(), threads.clone());
    let runtime: Runtime = builder
        .enable_all()
        .thread_stack_size(STACK)
        // Whatever a worker just polled, it is in no scope when it has nothing to do.
        .on_thread_park(move || parked.observe(&Expected::default(), "parked thread"))
        .on_thread_stop(move || stopped.observe(&Expected::default(), "stopped thread"))
        .build()
        .unwrap();
    let config = Config { cases: 1000, failure_persistence: None, max_shrink_time: 60_000, ..Config::default() };
    let outcome = TestRunner::new(config).run(&program(), |block| {
        let context = Context::default();
        let log = Arc::clone(&context.log);
        let whole = run(block, Expected::default(), context.clone());
        runtime.block_on(async {
            let ended = tokio::time::timeout(LIMIT, async {
                whole.await;
                // A task whose parent was cancelled is still on its way.
                while log.alive.load(Ordering::SeqCst) > 0 {
                    yield_now().await;
                }
                context.observe(&Expected::default(), "after the program");
                let next = context.clone();
                let next = async move { next.observe(&Expected::default(), "the next task") };
                tokio::spawn(next).await.unwrap();
            });
            prop_assert!(ended.await.is_ok(), "not at its end after {LIMIT:?}");
            Ok(())
        })?;
        let observations = log.observations.load(Ordering::SeqCst);
        prop_assert!(observations >= 4, "only {observations} observations");
        let differences = log.differences.lock().unwrap().clone();
        prop_assert!(differences.is_empty(), "{differences}");
        Ok(())
    });
    drop(runtime);
    if let Err(error) = outcome {
        panic!("{error}");
    }
    assert!(threads.log.observations.load(Ordering::SeqCst) > 0);
    assert_eq!(threads.log.differences.lock().unwrap().as_str(), "");
}

#[test]
fn observed_scopes_are_those_of_the_source_on_one_thread() {
    with_deep_stack(|| check(Builder::new_current_thread()));
}

#[test]
fn observed_scopes_are_those_of_the_source_on_many_threads() {
    with_deep_stack(|| {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(3);
        check(builder);
    });
}

fn with_deep_stack(test: fn()) {
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(test).unwrap();
    if let Err(panic) = thread.join() {
        resume_unwind(panic);
    }
}
