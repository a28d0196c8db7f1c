//! Events as types of the application's, whatever form they were written in.
//!
//! It stands on events alone, so that decisions, projections and consumers can use it alike.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `event_codec` | the codec: types, versions, upcasters, what is unknown |
//! | `tagged` | an enum out of a type and a payload, and back |

mod event_codec;
mod tagged;

pub use self::event_codec::{EventCodec, UnknownEvents};
