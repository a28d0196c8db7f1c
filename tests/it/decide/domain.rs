//! Courses with a capacity, and students who may take two of them.

use std::sync::Arc;

use mainstem::{
    AppendCondition, Command, CommandError, Decision, Event, EventStore, Filter, MemoryEventStore, NewEvent,
    Projection, Result,
};
use serde::{Deserialize, Serialize};

pub(crate) const DEFINED: &str = "CourseDefined";
pub(crate) const ENROLLED: &str = "StudentEnrolled";
pub(crate) const REFUSED: &str = "EnrolmentRefused";

/// How many courses a student may take.
pub(crate) const COURSES: usize = 2;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Course {
    pub(crate) id: u32,
    pub(crate) capacity: usize,
    pub(crate) students: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Student {
    pub(crate) id: u32,
    pub(crate) courses: Vec<u32>,
}

pub(crate) fn course(id: u32) -> Course {
    Course { id, capacity: 0, students: Vec::new() }
}

pub(crate) fn student(id: u32) -> Student {
    Student { id, courses: Vec::new() }
}

impl Projection for Course {
    fn filter(&self) -> Result<Filter> {
        Filter::matching().any_type_of([DEFINED, ENROLLED]).and_all_tags_of([format!("course:{}", self.id)]).finish()
    }

    fn apply(&mut self, event: &Event) -> Result<()> {
        match event.event_type() {
            DEFINED => self.capacity = event.decode()?,
            _ => self.students.push(event.decode::<Enrolment>()?.student),
        }
        Ok(())
    }
}

impl Projection for Student {
    fn filter(&self) -> Result<Filter> {
        Filter::matching().any_type_of([ENROLLED]).and_all_tags_of([format!("student:{}", self.id)]).finish()
    }

    fn apply(&mut self, event: &Event) -> Result<()> {
        self.courses.push(event.decode::<Enrolment>()?.course);
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Enrolment {
    pub(crate) course: u32,
    pub(crate) student: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Enrol {
    pub(crate) course: u32,
    pub(crate) student: u32,
    /// Whether the log shall tell of a refusal.
    pub(crate) tell: bool,
}

pub(crate) fn enrol(course: u32, student: u32) -> Enrol {
    Enrol { course, student, tell: false }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum EnrolmentError {
    #[error("there is no such course")]
    NoCourse,
    #[error("the course is full")]
    Full,
    #[error("the student has enough courses")]
    Enough,
}

impl Command for Enrol {
    type Model = (Course, Student);
    type Refusal = EnrolmentError;

    fn model(&self) -> Self::Model {
        (course(self.course), student(self.student))
    }

    fn decide(&self, (course, student): &Self::Model) -> Result<Decision<EnrolmentError>> {
        let reason = if course.students.contains(&student.id) {
            return Ok(Decision::nothing());
        } else if course.capacity == 0 {
            EnrolmentError::NoCourse
        } else if course.students.len() >= course.capacity {
            EnrolmentError::Full
        } else if student.courses.len() >= COURSES {
            EnrolmentError::Enough
        } else {
            return Ok(Decision::append([enrolled(course.id, student.id)]));
        };
        if self.tell {
            let told = NewEvent::new(REFUSED, &reason)?.with_tag(format!("course:{}", self.course));
            return Ok(Decision::refuse_and_append(reason, [told]));
        }
        Ok(Decision::refuse(reason))
    }
}

pub(crate) fn enrolled(course: u32, student: u32) -> NewEvent {
    let event = NewEvent::new(ENROLLED, &Enrolment { course, student }).unwrap();
    event.with_tags([format!("course:{course}"), format!("student:{student}")])
}

pub(crate) fn defined(course: u32, capacity: usize) -> NewEvent {
    NewEvent::new(DEFINED, &capacity).unwrap().with_tag(format!("course:{course}"))
}

pub(crate) async fn append(store: &dyn EventStore, events: impl IntoIterator<Item = NewEvent>) {
    (&store).append(events, AppendCondition::none()).await.unwrap();
}

/// All events of the log.
pub(crate) async fn log(store: &dyn EventStore) -> Vec<Event> {
    (&store).query(&Filter::any_event()).await.unwrap().into_events()
}

/// A store in memory and one in PostgreSQL, with a word for messages.
pub(crate) async fn stores() -> [(&'static str, Arc<dyn EventStore>); 2] {
    let postgres = crate::event_store::fresh_log().await;
    [("in memory", Arc::new(MemoryEventStore::new())), ("in PostgreSQL", Arc::new(postgres))]
}

/// Why it was given up, as a layer finds it that knows nothing of commands.
pub(super) fn reason(given_up: &CommandError<EnrolmentError>) -> String {
    let source = std::error::Error::source(given_up).expect("its source says why");
    source.downcast_ref::<mainstem::Error>().expect("an error of this crate").to_string()
}
