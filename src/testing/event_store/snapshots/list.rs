//! The cases, listed once: both the macro's tests and [`Case::all`] come from here.

use super::case::Case;

/// Calls `[a macro]` with the given tokens, followed by all cases.
#[doc(hidden)]
#[macro_export]
macro_rules! __snapshot_store_cases {
    ([$($callback:tt)+] $($given:tt)*) => { $($callback)+! { $($given)*
        snapshots {
            a_saved_snapshot_is_read_back_as_it_was: "mark and state are read back, and when it was saved",
            what_was_never_saved_is_not_found: "no snapshot is no error",
            a_snapshot_is_replaced_by_one_of_the_same_or_a_higher_position: "there is one snapshot of a key, the last one",
            a_lower_position_never_replaces_a_higher_one: "who is late changes nothing, and is told",
            of_many_saves_at_once_the_highest_stays_with_its_state: "position and state of a snapshot belong together",
            names_versions_and_filters_have_snapshots_of_their_own: "each part of the key is told apart",
            equal_filters_have_one_snapshot: "a filter counts by what it means, not by how it was made",
            hostile_names_are_only_names: "quotes, case, spaces, patterns and length of a name are kept and told apart",
            any_state_is_kept: "megabytes, 127 levels, numbers of any size and null are read back as the same JSON",
            a_deleted_snapshot_is_not_found: "a deletion says whether there was one, and leaves room for any other",
            deleting_what_is_not_there_is_no_error: "a deletion can be made again",
            a_deletion_takes_no_other_snapshot: "only the key's own snapshot is deleted",
            a_state_of_events_that_the_log_does_not_hold_is_refused: "no snapshot of another history is saved",
            a_save_that_is_never_awaited_saves_nothing: "a call does nothing before it is polled",
            an_abandoned_save_is_whole_or_not_there: "dropping a save half-way leaves no part of a snapshot",
        }
        projections {
            without_a_snapshot_all_events_are_applied: "a projection is computed from all that match, in their order",
            a_projection_goes_on_from_its_snapshot: "only what matches and is after the snapshot is read",
            so_many_events_make_a_snapshot: "a snapshot is saved when it is due, and not before",
            a_snapshot_that_does_not_decode_is_passed_over_and_replaced: "a bad snapshot costs time, and no answer",
            the_state_vouches_for_its_boundary: "an append under its condition sees what has come since, and nothing else",
            a_state_is_that_of_its_whole_history_while_others_append: "no event is lost or applied twice between snapshot and read",
            nothing_is_read_on_from_what_the_log_does_not_hold: "a history that was lost between snapshot and read is told",
        }
    } };
}

macro_rules! list {
    ($($topic:ident { $($name:ident: $proves:literal,)+ })+) => {
        impl Case {
            /// Returns all cases, by topic:
            ///
            /// | case | what it proves |
            /// |---|---|
            $($(#[doc = concat!("| `", stringify!($topic), "::", stringify!($name), "` | ", $proves, " |")])+)+
            #[must_use]
            pub fn all() -> &'static [Self] {
                CASES
            }
        }

        pub(super) const CASES: &[Case] = &[$($(Case {
            topic: stringify!($topic),
            name: stringify!($name),
            proves: $proves,
            check: |store| Box::pin(async move { super::$topic::$name(&store).await }),
        },)+)+];
    };
}

__snapshot_store_cases! { [list] }

/// Generates one test for each case of [`event_store::snapshots`](crate::testing::event_store::snapshots), on stores
/// that this expression creates, as [`event_store_tests!`](crate::event_store_tests) does for event stores.
///
/// ```
/// mod my_store {
///     mainstem::snapshot_store_tests!(async { mainstem::MemoryEventStore::new() });
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! snapshot_store_tests {
    ($store:expr $(,)?) => {
        fn __fresh_snapshot_store() -> impl ::core::future::Future<Output = impl $crate::SnapshotStore> {
            $store
        }
        $crate::__snapshot_store_cases! { [$crate::__snapshot_store_tests] }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __snapshot_store_tests {
    ($($topic:ident { $($name:ident: $proves:literal,)+ })+) => { $(
        mod $topic { $(
            #[test]
            fn $name() {
                let store = super::__fresh_snapshot_store();
                $crate::testing::event_store::snapshots::__run(::core::stringify!($name), store);
            }
        )+ }
    )+ };
}
