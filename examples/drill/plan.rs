//! What writers choose from: few courses and students, so that boundaries overlap.

use std::time::{SystemTime, UNIX_EPOCH};

use mainstem::{EventId, Filter, Predicate};
use serde_json::json;

use crate::journal::Written;

const COURSES: u64 = 6;
const STUDENTS: u64 = 8;
const ROOMS: u64 = 4;

/// Splitmix64: the same choices from the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64, writer: u64) -> Self {
        Self(seed ^ writer.wrapping_add(1).wrapping_mul(0xd129_0bc9_8c21_4bd7))
    }

    /// A number below `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % sides
    }

    /// Once in `sides` times.
    pub(crate) fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}

/// What a decision is about.
#[derive(Clone, Copy)]
pub(crate) struct Subject {
    course: u64,
    student: u64,
}

impl Subject {
    pub(crate) fn roll(dice: &mut Dice) -> Self {
        Self { course: dice.roll(COURSES), student: dice.roll(STUDENTS) }
    }

    /// A boundary of any form around it.
    pub(crate) fn boundary(self, dice: &mut Dice) -> mainstem::Result<Filter> {
        let Self { course, student } = self;
        let (course_tag, student_tag) = (format!("course:{course}"), format!("student:{student}"));
        let start = Filter::matching;
        match dice.roll(19) {
            // Payload predicates, of one entity and of either.
            0 | 1 => {
                let of_course = [Predicate::payload("course", course)];
                start().any_type_of(["Taken", "Left"]).and_any_predicate_of(of_course).finish()
            }
            2 | 3 => {
                let either = [Predicate::payload("course", course), Predicate::payload("student", student)];
                start().any_type_of(["Taken"]).and_any_predicate_of(either).finish()
            }
            // Tags.
            4 | 5 => start().all_tags_of([course_tag]).finish(),
            6 | 7 => start().all_tags_of([course_tag, student_tag]).finish(),
            // Two boundaries in one.
            8..=10 => start()
                .any_type_of(["Taken"])
                .and_all_tags_of([course_tag])
                .or_matching()
                .any_type_of(["Taken", "Left"])
                .and_all_tags_of([student_tag])
                .finish(),
            11 | 12 => start()
                .all_tags_of([student_tag])
                .or_matching()
                .any_type_of(["Noted"])
                .and_all_predicates_of([Predicate::payload(["place", "course"], course)])
                .finish(),
            // Metadata and nested members.
            13 | 14 => {
                let room = Predicate::metadata("room", dice.roll(ROOMS));
                start().all_predicates_of([room, Predicate::payload(["place", "course"], course)]).finish()
            }
            // A narrow set of types, a wider one, and everything.
            15 => start().any_type_of(["Left"]).finish(),
            16 => start().any_type_of(["Left", "Noted"]).finish(),
            17 => start().any_type_of(["Left", "Noted", "Taken"]).finish(),
            _ => Ok(Filter::any_event()),
        }
    }

    pub(crate) fn event(self, dice: &mut Dice) -> Written {
        let Self { course, student } = self;
        let event_type = ["Taken", "Taken", "Left", "Noted"][usize::try_from(dice.roll(4)).unwrap_or_default()];
        Written {
            id: EventId::new(),
            event_type: event_type.to_owned(),
            tags: vec![format!("course:{course}"), format!("student:{student}")],
            payload: json!({"course": course, "student": student, "place": {"course": course}, "serial": dice.roll(1 << 40)}),
            metadata: json!({"room": dice.roll(ROOMS)}),
            occurred: now_micros(),
        }
    }

    /// Some events, the first about the subject and the others about anything.
    pub(crate) fn events(self, dice: &mut Dice) -> Vec<Written> {
        let more = if dice.one_in(3) { 1 + dice.roll(3) } else { 0 };
        let mut events = vec![self.event(dice)];
        for _ in 0..more {
            events.push(Self::roll(dice).event(dice));
        }
        events
    }
}

/// A name that all writers want at this moment, and the event that takes it.
pub(crate) fn claim(dice: &mut Dice) -> mainstem::Result<(Filter, Vec<Written>)> {
    let name = format!("name:{}", now_micros() / 100_000);
    let mut event = Subject::roll(dice).event(dice);
    event.event_type = "Named".to_owned();
    event.tags.push(name.clone());
    Ok((Filter::matching().any_type_of(["Named"]).and_all_tags_of([name]).finish()?, vec![event]))
}

fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or_default()
}
