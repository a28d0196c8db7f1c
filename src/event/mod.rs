//! Events: what is appended, what is read, and the handles on it.

mod id;
mod mark;
mod new;
mod recorded;
mod text;
pub(crate) mod time;

#[cfg(test)]
mod tests;

pub(crate) use self::text::{check_tag, check_type};
pub use self::{id::EventId, mark::Mark, new::NewEvent, recorded::Event};
