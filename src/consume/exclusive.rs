//! A value that is only ever used by who has it alone.

use std::{fmt, sync::Mutex};

/// Makes what can be sent shareable, too, since nobody can do anything with a shared one. A boxed future is not shareable by
/// itself, and what holds one could not be borrowed over an `await` in a task.
pub(super) struct Exclusive<T>(Mutex<T>);

impl<T> Exclusive<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Nobody ever locks it, so this costs nothing.
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
