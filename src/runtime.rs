//! The tokio runtime for connections and waits. tokio panics where there is none.

use tokio::runtime::Handle;

use crate::error::{Error, Result};

/// Returns the runtime of this call, or an error if there is none. It is called where a call begins: before it takes a
/// place in a queue or a connection.
pub(crate) fn current() -> Result<Handle> {
    Handle::try_current().map_err(|_| {
        let message = "there is no tokio runtime here: call this within one that has time and IO enabled (#[tokio::main], \
                       #[tokio::test], Runtime::block_on, or Runtime::enter for what is not async)";
        Error::configuration(message)
    })
}
