//! Which appends may go into one batch, and how they affect each other. Pure: no I/O, no clock.
//!
//! A batch is checked append by append: each condition against the log, and against what the appends before it in the
//! batch write. To compare everything with everything would be quadratic. So each condition names [keys](keys), such
//! that an event with none of them cannot match, and only what shares a key is [compared](overlap).

mod array_text;
#[cfg(any(test, feature = "testing"))]
mod check;
mod keys;
mod overlap;

#[cfg(test)]
mod tests;

#[cfg(feature = "testing")]
pub use self::check::__guard;
pub(super) use self::{
    array_text::array_text,
    keys::{EventKeys, GuardKeys, KeyField, KeyMap, KeySet},
    overlap::{Candidate, Turn, plan},
};
