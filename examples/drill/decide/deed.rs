//! What is asked for: enrolments, transfers, bookings. Each belongs to a period, so that no history grows long.

use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

use mainstem::{Command, Decision, DecisionModel, Event, Filter, NewEvent, Parts, Projection, Result};
use serde::{Deserialize, Serialize};

use crate::plan::Dice;

pub(crate) const CAPACITY: usize = 4;
pub(crate) const MOST_COURSES: usize = 3;
pub(crate) const BALANCE: i64 = 100;

const PERIOD_MS: u128 = 700;
const COURSES: u64 = 5;
const STUDENTS: u64 = 12;
const ACCOUNTS: u64 = 6;
const SEATS: u64 = 12;

/// The types of the events that change something, and of those that only report a refusal.
pub(crate) const CHANGES: [&str; 4] = ["Enrolled", "Left", "Transferred", "Booked"];
pub(crate) const TOLD: &str = "Refused";

/// Something that somebody wants.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Deed {
    pub(crate) id: String,
    pub(crate) period: u64,
    pub(crate) what: What,
    /// Whether an event reports a refusal.
    pub(crate) tell: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum What {
    Enrol { course: u64, student: u64 },
    Leave { course: u64, student: u64 },
    Transfer { from: u64, to: u64, amount: i64 },
    Book { seat: u64 },
}

/// What a decision was based on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Seen {
    pub(crate) in_course: BTreeSet<u64>,
    pub(crate) courses: BTreeSet<u64>,
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) bookings: u64,
}

/// An event's payload.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Fact {
    pub(crate) deed: Deed,
    pub(crate) seen: Seen,
}

impl Deed {
    pub(crate) fn roll(id: String, dice: &mut Dice) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (course, student) = (dice.roll(COURSES), dice.roll(STUDENTS));
        let what = match dice.roll(8) {
            0..=2 => What::Enrol { course, student },
            3 => What::Leave { course, student },
            4 | 5 => {
                let from = dice.roll(ACCOUNTS);
                let to = (from + 1 + dice.roll(ACCOUNTS - 1)) % ACCOUNTS;
                What::Transfer { from, to, amount: 1 + dice.roll(70).cast_signed() }
            }
            _ => What::Book { seat: dice.roll(SEATS) },
        };
        let period = u64::try_from(now.as_millis() / PERIOD_MS).unwrap_or_default();
        Self { id, period, what, tell: dice.one_in(4) }
    }

    fn tag(&self, kind: &str, number: u64) -> String {
        format!("{kind}:{}-{number}", self.period)
    }

    fn tags(&self) -> Vec<String> {
        match self.what {
            What::Enrol { course, student } | What::Leave { course, student } => {
                vec![self.tag("course", course), self.tag("student", student)]
            }
            What::Transfer { from, to, .. } => vec![self.tag("account", from), self.tag("account", to)],
            What::Book { seat } => vec![self.tag("seat", seat)],
        }
    }

    fn event(&self, event_type: &str, seen: &Seen) -> Result<NewEvent> {
        let fact = Fact { deed: self.clone(), seen: seen.clone() };
        Ok(NewEvent::new(event_type, &fact)?.with_tags(self.tags()))
    }
}

/// What a deed is decided on: each part has a filter for its own types and its own tag.
#[derive(Debug, Default)]
pub(crate) struct State {
    course: Option<Course>,
    student: Option<Student>,
    from: Option<Account>,
    to: Option<Account>,
    seat: Option<Seat>,
}

#[derive(Debug)]
struct Course {
    tag: String,
    students: BTreeSet<u64>,
}

#[derive(Debug)]
struct Student {
    tag: String,
    courses: BTreeSet<u64>,
}

#[derive(Debug)]
struct Account {
    tag: String,
    number: u64,
    balance: i64,
}

#[derive(Debug)]
struct Seat {
    tag: String,
    bookings: u64,
}

impl DecisionModel for State {
    fn parts<'a>(&'a mut self, parts: &mut Parts<'a>) {
        self.course.parts(parts);
        self.student.parts(parts);
        self.from.parts(parts);
        self.to.parts(parts);
        self.seat.parts(parts);
    }
}

impl State {
    fn seen(&self) -> Seen {
        Seen {
            in_course: self.course.as_ref().map(|course| course.students.clone()).unwrap_or_default(),
            courses: self.student.as_ref().map(|student| student.courses.clone()).unwrap_or_default(),
            from: self.from.as_ref().map_or(0, |account| account.balance),
            to: self.to.as_ref().map_or(0, |account| account.balance),
            bookings: self.seat.as_ref().map_or(0, |seat| seat.bookings),
        }
    }
}

fn of(types: &[&str], tag: &str) -> Result<Filter> {
    Filter::matching().any_type_of(types.iter().copied()).and_all_tags_of([tag]).finish()
}

impl Projection for Course {
    fn filter(&self) -> Result<Filter> {
        of(&["Enrolled", "Left"], &self.tag)
    }

    fn apply(&mut self, event: &Event) -> Result<()> {
        match event.decode::<Fact>()?.deed.what {
            What::Enrol { student, .. } => drop(self.students.insert(student)),
            What::Leave { student, .. } => drop(self.students.remove(&student)),
            _ => {}
        }
        Ok(())
    }
}

impl Projection for Student {
    fn filter(&self) -> Result<Filter> {
        of(&["Enrolled", "Left"], &self.tag)
    }

    fn apply(&mut self, event: &Event) -> Result<()> {
        match event.decode::<Fact>()?.deed.what {
            What::Enrol { course, .. } => drop(self.courses.insert(course)),
            What::Leave { course, .. } => drop(self.courses.remove(&course)),
            _ => {}
        }
        Ok(())
    }
}

impl Projection for Account {
    fn filter(&self) -> Result<Filter> {
        of(&["Transferred"], &self.tag)
    }

    fn apply(&mut self, event: &Event) -> Result<()> {
        if let What::Transfer { from, to, amount } = event.decode::<Fact>()?.deed.what {
            self.balance -= if from == self.number { amount } else { 0 };
            self.balance += if to == self.number { amount } else { 0 };
        }
        Ok(())
    }
}

impl Projection for Seat {
    fn filter(&self) -> Result<Filter> {
        of(&["Booked"], &self.tag)
    }

    fn apply(&mut self, _event: &Event) -> Result<()> {
        self.bookings += 1;
        Ok(())
    }
}

impl Command for Deed {
    type Model = State;
    type Refusal = Seen;

    fn model(&self) -> State {
        let account = |number| Some(Account { tag: self.tag("account", number), number, balance: BALANCE });
        match self.what {
            What::Enrol { course, student } | What::Leave { course, student } => State {
                course: Some(Course { tag: self.tag("course", course), students: BTreeSet::new() }),
                student: Some(Student { tag: self.tag("student", student), courses: BTreeSet::new() }),
                ..State::default()
            },
            What::Transfer { from, to, .. } => State { from: account(from), to: account(to), ..State::default() },
            What::Book { seat } => {
                State { seat: Some(Seat { tag: self.tag("seat", seat), bookings: 0 }), ..State::default() }
            }
        }
    }

    fn decide(&self, state: &State) -> Result<Decision<Seen>> {
        let seen = state.seen();
        let event_type = match self.rule(&seen) {
            Rule::Allowed(event_type) => event_type,
            Rule::Nothing => return Ok(Decision::nothing()),
            Rule::Against if self.tell => {
                let told = self.event(TOLD, &seen)?;
                return Ok(Decision::refuse_and_append(seen, [told]));
            }
            Rule::Against => return Ok(Decision::refuse(seen)),
        };
        Ok(Decision::append([self.event(event_type, &seen)?]))
    }
}

/// The ruling on a deed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// It is allowed, and an event of this type says so.
    Allowed(&'static str),
    Nothing,
    Against,
}

impl Deed {
    pub(crate) fn rule(&self, seen: &Seen) -> Rule {
        match self.what {
            What::Enrol { student, .. } if seen.in_course.contains(&student) => Rule::Nothing,
            What::Enrol { .. } if seen.in_course.len() >= CAPACITY || seen.courses.len() >= MOST_COURSES => {
                Rule::Against
            }
            What::Enrol { .. } => Rule::Allowed("Enrolled"),
            What::Leave { student, .. } if !seen.in_course.contains(&student) => Rule::Nothing,
            What::Leave { .. } => Rule::Allowed("Left"),
            What::Transfer { amount, .. } if seen.from < amount => Rule::Against,
            What::Transfer { .. } => Rule::Allowed("Transferred"),
            What::Book { .. } if seen.bookings > 0 => Rule::Against,
            What::Book { .. } => Rule::Allowed("Booked"),
        }
    }
}
