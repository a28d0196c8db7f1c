//! Courses have a capacity, and students may take three: one rule about two things, without locking either.
//!
//!     cargo run --example enrollment --features migrations,testing
//!
//! The events are an enum, with a codec that also reads the format in which the first of them were written.

use std::{future::IntoFuture, sync::LazyLock};

use futures_util::future::join_all;
use mainstem::{
    Command, CommandExecutor, CommandRecord, Decision, DecisionModel, Event, EventCodec, EventStore, Filter, NewEvent,
    PostgresEventStore, Projection, Result, Router, testing::LocalCluster,
};
use serde::{Deserialize, Serialize};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = LocalCluster::start().await?;
    let router = Router::builder().primary(cluster.primary().url()).connect().await?;
    let store = PostgresEventStore::new(&router);
    store.migrate().await?;
    run(store).await
}

#[derive(Serialize, Deserialize)]
enum CourseEvent {
    CourseDefined { course: u32, capacity: usize },
    StudentEnrolled { course: u32, student: u32 },
}

static CODEC: LazyLock<EventCodec<CourseEvent>> = LazyLock::new(|| {
    // Courses originally had no capacity of their own; each had room for two.
    EventCodec::new().upcast("CourseDefined", 1, |mut old: serde_json::Map<String, serde_json::Value>| {
        old.entry("capacity").or_insert(2.into());
        Ok(old)
    })
});

struct Course {
    id: u32,
    capacity: Option<usize>,
    students: Vec<u32>,
}

struct Student {
    id: u32,
    courses: usize,
}

impl Projection for Course {
    fn filter(&self) -> Result<Filter> {
        Filter::matching().all_tags_of([format!("course:{}", self.id)]).finish()
    }

    fn apply(&mut self, event: &Event) -> Result<()> {
        match CODEC.decode(event)? {
            Some(CourseEvent::CourseDefined { capacity, .. }) => self.capacity = Some(capacity),
            Some(CourseEvent::StudentEnrolled { student, .. }) => self.students.push(student),
            None => {}
        }
        Ok(())
    }
}

impl Projection for Student {
    fn filter(&self) -> Result<Filter> {
        let tags = [format!("student:{}", self.id)];
        Filter::matching().any_type_of(["StudentEnrolled"]).and_all_tags_of(tags).finish()
    }

    fn apply(&mut self, _enrolled: &Event) -> Result<()> {
        self.courses += 1;
        Ok(())
    }
}

fn course(id: u32) -> Course {
    Course { id, capacity: None, students: Vec::new() }
}

struct Enrol {
    course: u32,
    student: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
enum Refusal {
    #[error("there is no such course")]
    NoCourse,
    #[error("the course is full")]
    Full,
    #[error("the student has three courses")]
    Enough,
}

impl Command for Enrol {
    type Model = (Course, Student);
    type Refusal = Refusal;

    fn model(&self) -> Self::Model {
        (course(self.course), Student { id: self.student, courses: 0 })
    }

    fn decide(&self, (course, student): &Self::Model) -> Result<Decision<Refusal>> {
        let Self { course: id, student: who } = *self;
        Ok(match course.capacity {
            None => Decision::refuse(Refusal::NoCourse),
            Some(_) if course.students.contains(&who) => Decision::nothing(),
            Some(capacity) if course.students.len() >= capacity => Decision::refuse(Refusal::Full),
            Some(_) if student.courses >= 3 => Decision::refuse(Refusal::Enough),
            Some(_) => {
                let enrolled = CODEC.encode(&CourseEvent::StudentEnrolled { course: id, student: who })?;
                Decision::append([enrolled.with_tags([format!("course:{id}"), format!("student:{who}")])])
            }
        })
    }
}

/// Four courses, and eight students who want all of them at the same time.
pub(crate) async fn run(store: impl EventStore + Clone + 'static) -> Result<(), Box<dyn std::error::Error>> {
    let old = NewEvent::new("CourseDefined", &serde_json::json!({"course": 1}))?.with_tag("course:1");
    let mut defined = vec![old];
    for id in 2..=4 {
        let event = CODEC.encode(&CourseEvent::CourseDefined { course: id, capacity: 4 })?;
        defined.push(event.with_tag(format!("course:{id}")));
    }
    let none_yet = Filter::matching().any_type_of(["CourseDefined"]).finish()?;
    store.append(defined, mainstem::AppendCondition::fail_if_events_match(none_yet)).await?;

    let executor = CommandExecutor::new(store).max_attempts(100);
    let commands: Vec<_> = (1..=4).flat_map(|course| (1..=8).map(move |student| Enrol { course, student })).collect();
    // Each command has an id: a student who clicks twice is enrolled once.
    let all = commands.iter().map(|command| async {
        let record = CommandRecord::new(format!("enrol {} {}", command.course, command.student), "Enrol");
        let (one, two) =
            (executor.execute(command).recorded(record.clone()), executor.execute(command).recorded(record));
        tokio::join!(one.into_future(), two.into_future())
    });
    for (one, two) in join_all(all).await {
        match (one, two) {
            (Ok(one), Ok(two)) if one.is_repeated != two.is_repeated => {}
            (Err(one), Err(two)) if one.refusal().is_some() && one.refusal() == two.refusal() => {}
            (one, two) => return Err(format!("two results of one command: {one:?}, {two:?}").into()),
        }
    }
    let courses = (1..=4).map(course).collect::<Vec<_>>().read_from(executor.store()).await?.into_state();
    for Course { id, capacity, students } in courses {
        println!("course {id}: {} of {} places, {students:?}", students.len(), capacity.unwrap_or_default());
        if Some(students.len()) > capacity {
            return Err(format!("course {id} is overbooked").into());
        }
    }
    Ok(())
}
