//! What the results of reads have in common: each is a list of events.

/// Lets a result with a field `events` be used as the list of these: as a slice, and in loops.
macro_rules! event_list {
    ($list:ident $(<$parameter:ident>)?) => {
        impl $(<$parameter>)? std::ops::Deref for $list $(<$parameter>)? {
            type Target = [$crate::Event];

            fn deref(&self) -> &[$crate::Event] {
                &self.events
            }
        }

        impl $(<$parameter>)? IntoIterator for $list $(<$parameter>)? {
            type Item = $crate::Event;
            type IntoIter = std::vec::IntoIter<$crate::Event>;

            fn into_iter(self) -> Self::IntoIter {
                self.events.into_iter()
            }
        }

        impl<'a $(, $parameter)?> IntoIterator for &'a $list $(<$parameter>)? {
            type Item = &'a $crate::Event;
            type IntoIter = std::slice::Iter<'a, $crate::Event>;

            fn into_iter(self) -> Self::IntoIter {
                self.events.iter()
            }
        }
    };
}

pub(crate) use event_list;
