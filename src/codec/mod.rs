//! Events as the application's own types, whatever form they were written in.
//!
//! It depends on events alone, so decisions, projections and consumers can all use it.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `event_codec` | the codec: types, versions, upcasters, unknown types |
//! | `tagged` | an enum from a type and a payload, and back |

mod event_codec;
mod tagged;

pub use self::event_codec::{EventCodec, UnknownEvents};
