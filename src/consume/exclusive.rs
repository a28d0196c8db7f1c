//! A value that is used only through exclusive access.

use std::{fmt, sync::Mutex};

/// Makes a `Send` value `Sync` as well, since nothing can be done with a shared reference to it. A boxed future is not
/// `Sync` by itself, and its owner could not be borrowed across an `await` in a task.
pub(super) struct Exclusive<T>(Mutex<T>);

impl<T> Exclusive<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// The mutex is never locked, so this costs nothing.
    pub(super) fn get_mut(&mut self) -> &mut T {
        match self.0.get_mut() {
            Ok(value) => value,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    pub(super) fn set(&mut self, value: T) {
        *self.get_mut() = value;
    }
}

impl<T> fmt::Debug for Exclusive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exclusive")
    }
}
