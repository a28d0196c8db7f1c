//! The tokio runtime that connections, waits and tasks live on. tokio panics where there is none.

use tokio::runtime::Handle;

use crate::error::{Error, Result};

/// The runtime of this call, or the error that there is none. It is asked where a call begins: before it takes a place in a line
/// or a connection.
pub(crate) fn current() -> Result<Handle> {
    Handle::try_current().map_err(|_| {
        let message = "there is no tokio runtime here: call this within one that has time and IO enabled (#[tokio::main], \
                       #[tokio::test], Runtime::block_on, or Runtime::enter for what is not async)";
        Error::configuration(message)
    })
}
