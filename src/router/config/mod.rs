//! A router's settings, and the router built from them.
//!
//! | file | what it holds |
//! |---|---|
//! | `builder`, `settings` | settings in code |
//! | `parameters`, `url`, `source` | settings as text, from URLs and the environment |
//! | `tls` | encryption of connections, and whom they trust |
//! | `check` | what is verified before the first call |
//! | `assemble` | the router built from them |

pub(in crate::router) mod assemble;
pub(in crate::router) mod builder;
pub(in crate::router) mod check;
pub(in crate::router) mod parameters;
pub(in crate::router) mod settings;
pub(in crate::router) mod source;
pub(in crate::router) mod tls;
pub(in crate::router) mod url;
