//! The scope reaches what runs inside it and nothing else, and leaves no trace, whatever happens inside.

mod program;
mod trees;

use std::{
    future::{pending, ready},
    panic::resume_unwind,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::{
    StreamExt,
    future::join,
    stream::{self, FuturesUnordered},
};
use mainstem::{
    Consistency::{self, Eventual, Strong},
    Extensions, InScope, Scope, Scoped, current_consistency, with_consistency, with_eventual_consistency,
    with_strong_consistency,
};
use task_local_extensions::{get_local_item, with_extensions};
use tokio::{
    runtime,
    task::{JoinSet, LocalSet, spawn_blocking, spawn_local, yield_now},
};

async fn level() -> Consistency {
    yield_now().await;
    current_consistency()
}

fn current_thread() -> runtime::Runtime {
    runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn levels_have_a_default_and_names() {
    assert_eq!(Consistency::default(), Strong);
    assert_eq!(Strong.to_string(), "strong");
    assert_eq!(Eventual.to_string(), "eventual");
    assert_eq!(format!("{Eventual:>10}"), "  eventual");
}

#[test]
fn a_scope_does_not_show_its_items_in_logs() {
    let scope = Scope::new().with_consistency(Eventual).with_item("secret");
    assert_eq!(format!("{scope:?}"), "Scope { consistency: Eventual, .. }");
}

#[tokio::test]
async fn without_a_scope_reads_are_strong() {
    assert_eq!(level().await, Strong);
    assert_eq!(Scope::current().consistency(), &Strong);
}

#[tokio::test]
async fn the_inner_level_wins_and_the_outer_one_is_back_after_it() {
    with_eventual_consistency(async {
        assert_eq!(level().await, Eventual);
        with_strong_consistency(async {
            assert_eq!(level().await, Strong);
            assert_eq!(with_consistency(Eventual, level()).await, Eventual);
            assert_eq!(level().await, Strong);
        })
        .await;
        assert_eq!(level().await, Eventual);
    })
    .await;
    assert_eq!(level().await, Strong);
}

#[tokio::test]
async fn nested_scopes_see_the_outer_items_and_shadow_them() {
    let outer = Scope::new().with_item(1_u8).with_item("outer");
    let extensions = Extensions::new().with(2_u8).with(true);
    outer
        .run(async {
            let inner = Scope::current().with_items(extensions);
            inner
                .run(async {
                    let scope = Scope::current();
                    assert_eq!(scope.get(), Some(&2_u8));
                    assert_eq!(scope.get(), Some(&"outer"));
                    assert_eq!(scope.get(), Some(&true));
                    assert_eq!(scope.get::<u64>(), None);
                })
                .await;
            assert_eq!(Scope::current().get(), Some(&1_u8));
            assert_eq!(Scope::current().get::<bool>(), None);
        })
        .await;
    // Deriving must not have written into the frame that both share.
    assert_eq!(outer.get(), Some(&1_u8));
    assert_eq!(outer.get::<bool>(), None);
}

#[tokio::test]
async fn a_new_scope_hides_the_outer_one() {
    let outer = Scope::new().with_consistency(Eventual).with_item(1_u8);
    outer
        .run(Scope::new().run(async {
            assert_eq!(level().await, Strong);
            assert_eq!(Scope::current().get::<u8>(), None);
        }))
        .await;
}

#[tokio::test]
async fn other_futures_of_the_task_inherit() {
    with_eventual_consistency(async {
        assert_eq!(tokio::join!(level(), level()), (Eventual, Eventual));
        assert_eq!(join(level(), level()).await, (Eventual, Eventual));
        let selected = tokio::select! { level = level() => level, () = pending() => Strong };
        assert_eq!(selected, Eventual);
        let levels: FuturesUnordered<_> = (0..3).map(|_| level()).collect();
        assert_eq!(levels.collect::<Vec<_>>().await, [Eventual, Eventual, Eventual]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_and_threads_inherit_by_an_adapter_only() {
    with_eventual_consistency(async {
        assert_eq!(tokio::spawn(level()).await.unwrap(), Strong);
        assert_eq!(tokio::spawn(level().in_current_scope()).await.unwrap(), Eventual);
        let mut set = JoinSet::new();
        set.spawn(level());
        assert_eq!(set.join_next().await.unwrap().unwrap(), Strong);

        assert_eq!(spawn_blocking(current_consistency).await.unwrap(), Strong);
        let scope = Scope::current();
        let carried = move || scope.run_sync(current_consistency);
        assert_eq!(spawn_blocking(carried.clone()).await.unwrap(), Eventual);
        assert_eq!(std::thread::spawn(current_consistency).join().unwrap(), Strong);
        assert_eq!(std::thread::spawn(carried).join().unwrap(), Eventual);

        let handle = runtime::Handle::current();
        let blocked = tokio::task::block_in_place(|| handle.block_on(level()));
        assert_eq!(blocked, Eventual);
        assert_eq!(level().await, Eventual);
    })
    .await;
}

/// Nobody likes it, but the documentation says it: who drives an executor inside a scope gives its tasks the scope.
#[test]
fn an_executor_that_is_driven_inside_a_scope_gives_it_to_all_its_tasks() {
    let local = LocalSet::new();
    let stranger = local.spawn_local(level());
    let seen = current_thread().block_on(with_eventual_consistency(
        local.run_until(async move { (stranger.await.unwrap(), spawn_local(level()).await.unwrap()) }),
    ));
    assert_eq!(seen, (Eventual, Eventual));

    let scope = Scope::new().with_consistency(Eventual);
    let nested = scope.run_sync(|| current_thread().block_on(async { tokio::spawn(level()).await }));
    assert_eq!(nested.unwrap(), Eventual);
}

#[tokio::test]
async fn futures_created_inside_and_polled_outside_lose_the_scope() {
    let eventual = Scope::new().with_consistency(Eventual);
    assert_eq!(eventual.run_sync(level).await, Strong);
    let stream = eventual.run(async { stream::iter(0..4).map(|_| level()).buffered(2) }).await;
    assert_eq!(stream.collect::<Vec<_>>().await, [Strong, Strong, Strong, Strong]);
    let stream = stream::iter(0..4).map(|_| eventual.run(level())).buffered(2);
    assert_eq!(stream.collect::<Vec<_>>().await, [Eventual, Eventual, Eventual, Eventual]);
    let inside = stream::iter(0..2).map(|_| level()).buffered(2).collect::<Vec<_>>();
    assert_eq!(eventual.run(inside).await, [Eventual, Eventual]);
}

#[tokio::test]
async fn an_adapter_captures_when_it_is_called() {
    let eventual = Scope::new().with_consistency(Eventual).with_item(1_u8);
    let seen = async || (level().await, Scope::current().get::<u8>().copied());

    let future = eventual.run_sync(|| seen().in_current_scope());
    assert_eq!(future.await, (Eventual, Some(1)));
    // Outside all scopes is a scope, too.
    let future = seen().in_current_scope();
    assert_eq!(eventual.run(future).await, (Strong, None));
    // A level brings its own, and takes the items from where it is called.
    let future = eventual.run_sync(|| with_strong_consistency(seen()));
    assert_eq!(future.await, (Strong, Some(1)));
    let future = with_eventual_consistency(seen());
    assert_eq!(Scope::new().with_item(2_u8).run(future).await, (Eventual, None));
    assert_eq!(seen().in_scope(eventual.clone()).await, (Eventual, Some(1)));
}

/// What the next task on the same thread reads after a task panicked in an eventual scope.
fn after_a_panic<S, R>(
    scoped: impl Future<Output = S> + Send + 'static,
    read: impl Future<Output = R> + Send + 'static,
) -> R
where
    S: Send + 'static,
    R: Send + 'static,
{
    // On a thread of its own: the control leaves its trace for as long as the thread lives.
    let thread = std::thread::spawn(|| {
        current_thread().block_on(async {
            assert!(tokio::spawn(scoped).await.err().is_some_and(|error| error.is_panic()));
            tokio::spawn(read).await.unwrap()
        })
    });
    thread.join().unwrap()
}

/// Panics after it has been suspended once; not with `panic!`, which writes to the terminal.
async fn panicking() {
    yield_now().await;
    resume_unwind(Box::new("on purpose"));
}

#[test]
fn a_panic_leaves_no_trace_for_the_next_task_on_the_thread() {
    assert_eq!(after_a_panic(with_eventual_consistency(panicking()), level()), Strong);
    let with_item = Scope::new().with_item(1_u8).run(panicking());
    assert_eq!(after_a_panic(with_item, async { Scope::current().get::<u8>().copied() }), None);
}

/// The control: the same check finds the trace that the carrier of `task_local_extensions` leaves.
#[test]
fn the_check_for_traces_of_a_panic_finds_them_in_the_raw_crate() {
    let raw = with_extensions(Extensions::new().with(Eventual), panicking());
    assert_eq!(after_a_panic(raw, get_local_item::<Consistency>()), Some(Eventual));
}

#[tokio::test]
async fn destructors_see_the_scope_of_their_future() {
    struct OnDrop(Arc<AtomicBool>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.store(current_consistency() == Eventual, Ordering::SeqCst);
        }
    }
    let seen = Arc::new(AtomicBool::new(false));
    let hold = || {
        let on_drop = OnDrop(Arc::clone(&seen));
        with_eventual_consistency(async move {
            let _on_drop = on_drop;
            pending::<()>().await;
        })
    };

    drop(hold());
    assert!(seen.swap(false, Ordering::SeqCst), "before the first poll");
    tokio::select! { biased; () = hold() => {}, () = ready(()) => {} }
    assert!(seen.swap(false, Ordering::SeqCst), "after a poll");
    with_strong_consistency(async { drop(hold()) }).await;
    assert!(seen.swap(false, Ordering::SeqCst), "inside another scope");
    let task = tokio::spawn(hold());
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert!(seen.swap(false, Ordering::SeqCst), "in a task that is aborted");
    assert_eq!(level().await, Strong);
}

#[test]
fn auto_traits_are_those_of_the_future() {
    // Two implementations apply to a type that is Send, and then `_` is ambiguous: it does not compile.
    trait NotSend<A> {
        fn holds() {}
    }
    impl<T> NotSend<()> for T {}
    impl<T: Send> NotSend<u8> for T {}

    fn scope<T: Send + Sync + Clone + Default + std::fmt::Debug + 'static>() {}
    fn level<T: Send + Sync + Clone + Default + std::fmt::Debug + Eq + 'static>() {}
    fn future<T: Send + Sync + std::fmt::Debug>() {}
    scope::<Scope>();
    level::<Consistency>();
    future::<Scoped<std::future::Ready<u8>>>();
    <Scoped<std::future::Ready<Rc<u8>>> as NotSend<_>>::holds();
}
