//! Decision models: several projections, one read, one condition.

use std::collections::HashSet;

use mainstem::{
    Appended, Consistency, DecisionModel, ErrorKind, Event, EventStore, Filter, MemoryEventStore, NewEvent, Parts,
    Projection, Result, Scope, SnapshotKey, SnapshotStore,
    backend::{Answer, AppendRequest, BoxFuture, QueryRequest},
};
use proptest::prelude::*;

use super::{
    domain::{Course, ENROLLED, Student, append, course, defined, enrolled, log, stores, student},
    spy::{Call, Spy},
};
use crate::support::event;

/// Counts what its filter matches.
#[derive(Debug, PartialEq, Eq)]
struct Count {
    filter: Filter,
    positions: Vec<u64>,
}

impl Projection for Count {
    fn filter(&self) -> Result<Filter> {
        Ok(self.filter.clone())
    }

    fn apply(&mut self, event: &Event) -> Result<()> {
        self.positions.push(event.position());
        Ok(())
    }
}

fn count(filter: &Filter) -> Count {
    Count { filter: filter.clone(), positions: Vec::new() }
}

struct Enrolment {
    course: Course,
    student: Student,
}

impl DecisionModel for Enrolment {
    fn parts<'a>(&'a mut self, parts: &mut Parts<'a>) {
        self.course.parts(parts);
        self.student.parts(parts);
    }
}

/// An event that has a type of the student's filter and a tag of the course's alone.
fn crossed() -> NewEvent {
    event(ENROLLED, serde_json::json!({"course": 9, "student": 9})).with_tag("course:9")
}

#[tokio::test]
async fn a_part_whose_type_is_chosen_at_run_time_is_one_like_any_other() {
    let lent = Filter::matching().any_type_of(["A"]).finish().unwrap();
    let chosen: Box<dyn Projection> = Box::new(count(&lent));
    let store = MemoryEventStore::new();
    append(&store, [event("B", serde_json::json!(1)), event("A", serde_json::json!(2))]).await;
    let read = (chosen, count(&Filter::any_event())).read_from(&store).await.unwrap();
    assert_eq!(read.state().1.positions, [1, 2]);
    // An event for the boxed part is in what the read vouches for.
    append(&store, [event("A", serde_json::json!(3))]).await;
    let error = store.append([event("C", serde_json::json!(4))], read.unchanged()).await.unwrap_err();
    assert_eq!(error.conflict().map(|conflict| conflict.position), Some(3));
    let only = Box::new(count(&lent)) as Box<dyn Projection>;
    let read = only.read_from(&store).await.unwrap();
    append(&store, [event("B", serde_json::json!(5))]).await;
    store.append([event("A", serde_json::json!(6))], read.unchanged()).await.unwrap();
}

#[tokio::test]
async fn each_part_is_told_of_the_events_that_its_own_filter_matches() {
    for (place, store) in stores().await {
        let events =
            [defined(1, 3), defined(2, 3), enrolled(1, 7), enrolled(2, 7), enrolled(1, 8), enrolled(2, 9), crossed()];
        append(&store, events).await;
        let read = (course(1), student(7)).read_from(&store).await.unwrap();
        let expected = (Course { id: 1, capacity: 3, students: vec![7, 8] }, Student { id: 7, courses: vec![1, 2] });
        assert_eq!(read.state(), &expected, "{place}");
        // The one that concerns both is read once.
        assert_eq!(read.applied(), 4, "{place}");
        let union = Filter::union([course(1).filter().unwrap(), student(7).filter().unwrap()]).unwrap();
        assert_eq!(read.filter(), &union, "{place}");
    }
}

#[tokio::test]
async fn models_are_composed_of_models() {
    let store = MemoryEventStore::new();
    append(&store, [defined(1, 3), enrolled(1, 7), enrolled(2, 7)]).await;
    let named = Enrolment { course: course(1), student: student(7) };
    let model = (named, vec![course(1), course(2)], [student(7), student(8)], Some((student(7),)), None::<Course>);
    let (named, courses, students, some, none) = model.read_from(&store).await.unwrap().into_state();
    assert_eq!((named.course.students, named.student.courses), (vec![7], vec![1, 2]));
    assert_eq!(courses.iter().map(|course| course.students.len()).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(students.map(|student| student.courses.len()), [2, 0]);
    assert_eq!((some.unwrap().0.courses.len(), none), (2, None));
}

#[tokio::test]
async fn a_model_of_many_parts_is_read_in_one_query() {
    let spy = Spy::default();
    (course(1), student(2), [course(3), course(4)], vec![student(5); 20]).read_from(&spy).await.unwrap();
    assert_eq!(spy.calls(), [Call::Query(Consistency::Strong)]);
}

#[tokio::test]
async fn an_event_of_any_part_that_comes_after_the_read_is_a_conflict_and_no_other_is() {
    for (place, store) in stores().await {
        append(&store, [defined(1, 3)]).await;
        let cases = [
            (enrolled(1, 99), true),
            (enrolled(99, 7), true),
            (defined(1, 9), true),
            // A type of one part with a tag of the other, and what concerns neither.
            (defined(7, 1).with_tag("student:7"), false),
            (enrolled(99, 99), false),
        ];
        for (event, is_conflict) in cases {
            let told = format!("{place}, {event:?}");
            let read = (course(1), student(7)).read_from(&store).await.unwrap();
            append(&store, [event]).await;
            let appended = store.append([crossed()], read.unchanged()).await;
            assert_eq!(appended.err().map(|error| error.kind()), is_conflict.then_some(ErrorKind::Conflict), "{told}");
        }
    }
}

#[tokio::test]
async fn a_read_that_found_nothing_vouches_for_that() {
    for (place, store) in stores().await {
        let of_an_empty_log = student(7).read_from(&store).await.unwrap();
        append(&store, [defined(1, 3)]).await;
        let of_nothing = student(7).read_from(&store).await.unwrap();
        assert_eq!((of_nothing.applied(), of_nothing.head().map(|head| head.position())), (0, Some(1)), "{place}");
        // What does not match is no conflict …
        store.append([defined(2, 1)], of_an_empty_log.unchanged()).await.unwrap();
        store.append([defined(3, 1)], of_nothing.unchanged()).await.unwrap();
        // … and what matches is.
        append(&store, [enrolled(2, 7)]).await;
        for read in [of_an_empty_log, of_nothing] {
            let error = store.append([enrolled(1, 7)], read.unchanged()).await.unwrap_err();
            assert_eq!(error.conflict().map(|conflict| conflict.position), Some(4), "{place}");
        }
    }
}

#[tokio::test]
async fn streaming_comes_to_the_same_without_a_whole_answer() {
    for (place, store) in stores().await {
        let events = (0..2_500).map(|index| enrolled(index % 3, index % 7));
        append(&store, [defined(1, 10)].into_iter().chain(events)).await;
        let whole = (course(1), student(2)).read_from(&store).await.unwrap();
        let streamed = (course(1), student(2)).read_from(&store).streaming().await.unwrap();
        assert_eq!(streamed.state(), whole.state(), "{place}");
        assert_eq!(streamed.state().0.students.len(), 833, "{place}");
        assert_eq!((streamed.applied(), streamed.head()), (whole.applied(), whole.head()), "{place}");
        assert_eq!(streamed.unchanged(), whole.unchanged(), "{place}");
        assert_eq!((streamed.node(), streamed.role()), (whole.node(), whole.role()), "{place}");
    }
    let spy = Spy::default();
    course(1).read_from(&spy).streaming().await.unwrap();
    assert_eq!(spy.calls(), [Call::Stream(Consistency::Strong)]);
}

#[tokio::test]
async fn a_model_goes_on_from_its_snapshot() {
    let store = MemoryEventStore::new();
    append(&store, [defined(1, 3), enrolled(1, 7), enrolled(2, 7)]).await;
    let read =
        async || (course(1), student(7)).resume_from(&store, "enrolment", 1).unwrap().save_every(1).await.unwrap();
    assert_eq!(read().await.applied(), 3);
    append(&store, [enrolled(1, 8), crossed()]).await;
    let resumed = read().await;
    assert_eq!(resumed.applied(), 1);
    let whole = (course(1), student(7)).read_from(&store).await.unwrap();
    assert_eq!((resumed.state(), resumed.unchanged()), (whole.state(), whole.unchanged()));
}

/// The union of the filters is the same in any order, and the state is not.
#[tokio::test]
async fn a_snapshot_is_of_parts_in_their_order() {
    let store = MemoryEventStore::new();
    append(&store, [defined(1, 3), defined(2, 5), enrolled(1, 7)]).await;
    let first = (course(1), course(2)).resume_from(&store, "both", 1).unwrap().save_every(1).await.unwrap();
    let other = (course(2), course(1)).resume_from(&store, "both", 1).unwrap().save_every(1).await.unwrap();
    assert_eq!(other.state(), &(first.state().1.clone(), first.state().0.clone()));
    append(&store, [enrolled(2, 8)]).await;
    for _ in 0..2 {
        let first = (course(1), course(2)).resume_from(&store, "both", 1).unwrap().save_every(1).await.unwrap();
        let whole = (course(1), course(2)).read_from(&store).await.unwrap();
        assert_eq!(first.state(), whole.state());
        assert!(first.applied() <= 1, "each goes on from its own");
        assert_ne!(first.key(), other.key());
    }
    // Of the same parts in other places there are others.
    let keys = [
        (Some(course(1)), None::<Course>).snapshot_key("places", 1).unwrap(),
        (None::<Course>, Some(course(1))).snapshot_key("places", 1).unwrap(),
        course(1).snapshot_key("places", 1).unwrap(),
        vec![vec![course(1)], vec![]].snapshot_key("places", 1).unwrap(),
        vec![vec![], vec![course(1)]].snapshot_key("places", 1).unwrap(),
    ];
    let different: HashSet<_> = keys.iter().map(SnapshotKey::digest).collect();
    assert_eq!(different.len(), keys.len());
    // It is the key that snapshots are saved by.
    let mut model = (course(1), course(2));
    assert_eq!(first.key(), &model.snapshot_key("both", 1).unwrap());
    store.delete_snapshot(first.key()).await.unwrap();
    let anew = model.resume_from(&store, "both", 1).unwrap().await.unwrap();
    assert!(anew.applied() > 1);
    // One alone is found by its filter, as a projection without a model.
    let alone = course(1).resume_from(&store, "one", 1).unwrap().await.unwrap();
    assert_eq!(alone.key(), &SnapshotKey::new("one", 1, &course(1).filter().unwrap()));
}

/// A store that gives more than it was asked for.
#[tokio::test]
async fn an_event_that_no_part_takes_is_an_error() {
    #[derive(Debug)]
    struct Lavish(MemoryEventStore);
    impl EventStore for Lavish {
        fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>> {
            self.0.run_append(request)
        }

        fn run_query(&self, mut request: QueryRequest) -> BoxFuture<Result<Answer>> {
            request.filter = Filter::any_event();
            self.0.run_query(request)
        }
    }
    let store = Lavish(MemoryEventStore::new());
    append(&store.0, [defined(1, 3), defined(2, 5)]).await;
    let error = course(1).read_from(&store).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    assert!(error.to_string().contains("at position 2"), "{error}");
    // What is there already may be of anything.
    let all = store.0.query(&Filter::any_event()).await.unwrap().into_events();
    course(1).replay(&all).unwrap();
}

#[tokio::test]
async fn the_scope_counts_where_the_model_is_asked_for() {
    use Consistency::{Eventual, Strong};
    let spy = Spy::default();
    let eventual = Scope::new().with_consistency(Eventual);
    eventual.run_sync(|| course(1).read_from(&spy)).await.unwrap();
    eventual.run_sync(|| course(1).read_from(&spy).streaming()).await.unwrap();
    let outside = course(1).read_from(&spy);
    eventual.run(async { outside.await }).await.unwrap();
    course(1).read_from(&spy).consistency(Eventual).await.unwrap();
    assert_eq!(
        spy.calls(),
        [Call::Query(Eventual), Call::Stream(Eventual), Call::Query(Strong), Call::Query(Eventual)]
    );
}

#[tokio::test]
async fn models_without_parts_and_undecodable_events_are_errors() {
    struct Growing(Vec<Count>);
    impl DecisionModel for Growing {
        fn parts<'a>(&'a mut self, parts: &mut Parts<'a>) {
            self.0.iter_mut().for_each(|part| part.parts(parts));
        }
    }
    struct Broken;
    impl Projection for Broken {
        fn filter(&self) -> Result<Filter> {
            Ok(Filter::any_event())
        }

        fn apply(&mut self, event: &Event) -> Result<()> {
            event.decode::<Vec<u8>>().map(drop)
        }
    }
    let store = MemoryEventStore::new();
    append(&store, [defined(1, 3)]).await;
    let error = Vec::<Course>::new().read_from(&store).await.unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("no parts"), "{error}");
    assert_eq!(
        Growing(Vec::new()).read_from(&store).await.err().map(|error| error.kind()),
        Some(ErrorKind::InvalidInput)
    );
    for error in [Broken.read_from(&store).await.err(), Broken.read_from(&store).streaming().await.err()] {
        assert!(error.unwrap().to_string().contains("at position 1"));
    }
}

#[tokio::test]
async fn in_memory_a_model_is_what_its_events_make_of_it() {
    let store = MemoryEventStore::new();
    append(&store, [defined(1, 3), enrolled(1, 7), crossed()]).await;
    let (of_course, of_student) = (course(1), student(7)).replay(&log(&store).await).unwrap();
    assert_eq!((of_course.students, of_student.courses), (vec![7], vec![1]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// However models overlap, each part comes to what it would have come to alone.
    #[test]
    fn together_is_the_same_as_apart(events in prop::collection::vec((0..3_usize, 0..4_u8, 0..4_u8), 0..40), parts in prop::collection::vec((0..3_usize, 0..4_u8, any::<bool>()), 1..6)) {
        const TYPES: [&str; 3] = ["A", "B", "C"];
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = MemoryEventStore::new();
            for (event_type, x, y) in events {
                append(&store, [event(TYPES[event_type], ().into()).with_tags([format!("x:{x}"), format!("y:{y}")])]).await;
            }
            let filters: Vec<Filter> = parts.iter().map(|(event_type, tag, of_type)| {
                let tags = [format!("{}:{tag}", if tag % 2 == 0 { "x" } else { "y" })];
                match of_type {
                    true => Filter::matching().any_type_of([TYPES[*event_type]]).and_all_tags_of(tags).finish().unwrap(),
                    false => Filter::matching().all_tags_of(tags).finish().unwrap(),
                }
            }).collect();
            let together: Vec<Count> = filters.iter().map(count).collect();
            let together = together.read_from(&store).await.unwrap();
            for (filter, part) in filters.iter().zip(together.state()) {
                let alone = count(filter).read_from(&store).await.unwrap().into_state();
                assert_eq!(part, &alone);
            }
            let all: std::collections::BTreeSet<_> = together.state().iter().flat_map(|part| &part.positions).collect();
            assert_eq!(together.applied(), all.len() as u64);
        });
    }
}
