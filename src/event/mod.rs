//! Events: what is appended, what is read, and their identifiers.

mod context;
mod id;
mod labels;
mod mark;
mod new;
mod payload;
mod place;
mod recorded;
mod schema;
mod text;
pub(crate) mod time;

#[cfg(test)]
mod tests;

pub(crate) use self::labels::{Labels, LabelsBuilder};
pub(crate) use self::text::{check_stream, check_tag, check_type};
pub use self::{
    context::EventContext, id::EventId, mark::Mark, new::NewEvent, payload::Payload, place::StreamPlace,
    recorded::Event,
};
