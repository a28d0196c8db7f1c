//! The cases, listed once: both the macro's tests and [`Case::all`] come from here.

use super::case::Case;

/// Calls `[a macro]` with the given tokens, followed by all cases.
#[doc(hidden)]
#[macro_export]
macro_rules! __event_store_cases {
    ([$($callback:tt)+] $($given:tt)*) => { $($callback)+! { $($given)*
        append {
            events_are_read_as_they_were_written: "an event is read back with every field as it was appended",
            opaque_bytes_are_read_as_they_were_written: "a payload may be bytes with a content type, whatever is in them",
            an_event_may_occur_when_it_is_recorded: "the client may leave the time to the store's clock",
            ids_of_messages_are_in_the_metadata: "where an event comes from is read back, from the scope of the call too",
            positions_follow_the_order_of_the_appends: "positions increase, and those of one append follow each other",
            an_append_is_whole_or_not_there: "an append that is refused, for whatever reason, writes nothing",
            an_append_does_not_break_its_own_condition: "the events of the append itself do not count against it",
            an_append_without_a_condition_is_written_whatever_the_log_holds: "without a condition there is no conflict",
            an_append_that_is_never_awaited_writes_nothing: "a call does nothing before it is polled",
        }
        query {
            an_empty_log_has_no_events_and_no_head: "an empty log is read as empty, not as an error",
            each_shape_of_filter_reads_what_matches: "types, tags, predicates, items and their combinations select the right events, in order",
            predicates_never_match_opaque_bytes: "bytes are not looked into, even if they are JSON; the rest of the event is",
            types_and_tags_are_compared_byte_by_byte: "no case, no accent, no space, no pattern and no beginning is taken for the same",
            the_head_is_the_logs_last_event_whatever_was_asked_for: "the head comes with every read, also with an empty one",
            a_position_bound_reads_what_comes_after_it: "a read begins behind a position, which is not part of it, and ends with one that is",
            a_time_bound_reads_what_occurred_in_it: "a span of time has both its ends, and is about when an event occurred",
            a_long_read_is_complete: "thousands of events are read whole, in the order of the log",
            a_strong_read_sees_every_append_that_was_acknowledged: "who has appended reads what was written",
        }
        page {
            a_limit_reads_the_first_that_match: "a limited read is the beginning of the whole one",
            newest_first_is_the_same_read_backwards: "from the end, it is the whole one the other way round",
            pages_one_after_the_other_are_the_whole: "reading on after the last event that was read misses and repeats nothing",
            the_last_match_is_the_last_of_the_read: "the last match, if there is one",
            a_count_is_that_of_the_read: "a count is the number of events that a read gives",
            existence_is_that_of_the_read: "an event exists if a read gives one",
        }
        stream {
            a_stream_is_the_read_event_by_event: "a stream gives what a read gives, and the head at its end only",
            a_long_stream_is_complete: "thousands of events are streamed whole, in the order of the log",
            a_part_is_streamed_in_its_order: "a limited stream, and one from the end, give what such a read gives",
            a_stream_ends_at_the_head_of_its_start: "what is appended while it runs is not in it",
            the_end_of_a_stream_vouches_for_all_of_it: "its condition is broken by what was appended since it began",
            a_stream_among_appends_is_the_log_up_to_its_head: "many appends at the same time change nothing of that",
        }
        following {
            pieces_of_the_log_are_the_whole: "what is read on after a place, a few events at a time, misses and repeats nothing",
            a_piece_up_to_a_position_looks_no_further: "one that spans so many positions reaches none after them, and all together miss nothing",
            reading_on_from_what_the_log_does_not_hold_has_diverged: "a mark that is not there, or is another event's, is an error and no place",
            a_piece_of_no_events_only_asks_for_its_place: "with a limit of 0 nothing is read, and only the place is judged",
            pieces_among_appends_are_the_log: "who follows while many append misses and repeats nothing",
            a_piece_ends_at_its_bytes: "large events end a piece, which has one at least, and the next one begins with what had no room",
        }
        waits {
            a_wait_for_what_is_there_ends: "a wait for what has come already does not sleep",
            a_wait_ends_with_the_next_append: "who waits is woken by what comes",
            no_append_is_slept_through: "also if it comes while the wait begins",
            a_wait_after_a_lost_event_ends: "a place that the log does not hold any more is not waited at",
            a_wait_without_news_goes_on: "who waits for nothing rests",
            a_read_at_least_as_new_as_an_append_contains_it: "the token of an append makes a read see it",
        }
        condition {
            an_unchanged_boundary_takes_the_append: "events that do not match the filter do not break it",
            a_matching_event_after_the_read_is_a_conflict: "one that matches does, and the conflict names the first",
            a_read_of_an_empty_log_is_broken_by_the_first_match: "nothing read from an empty log is something to vouch for",
            a_read_that_found_nothing_is_broken_by_the_first_match: "nothing found in a log with other events is, too",
            a_condition_without_after_counts_every_event: "without `after` any match in the whole log is a conflict",
            only_events_behind_after_count: "the event at `after` does not count, the next one does",
            an_append_need_not_match_its_own_condition: "what is guarded and what is written are independent",
            any_event_guards_the_whole_log: "the filter for any event is broken by any event",
            each_shape_of_filter_guards_what_it_reads: "a condition is broken by exactly those events that its filter reads",
            a_condition_from_far_back_is_judged_like_a_near_one: "1500 events in between change nothing",
            a_condition_is_judged_anew_each_time: "a condition is a value: used again, it is judged again",
        }
        repeat {
            a_repeated_append_returns_the_first_ones_positions: "the same append, made again, writes nothing and says where the events are",
            a_repeat_is_answered_whatever_its_condition_says_now: "a repeat is recognised before its condition is judged",
            an_event_of_the_same_value_is_the_same_event: "a repeat is told by the value of its JSON, not by the text",
            opaque_bytes_are_compared_byte_by_byte: "nor by the content type alone, nor as JSON",
            a_repeat_from_elsewhere_is_the_same_event: "the ids of messages don't count when a repeat is told, the rest of the metadata does",
            ids_of_other_events_are_refused: "ids with other content, another order, a part or more are refused, whole",
            a_refused_append_leaves_its_ids_free: "an append that was refused can be made again, for the first time",
            an_abandoned_append_is_whole_or_not_there_and_can_be_made_again: "dropping an append half-way leaves no part, and a repeat settles it",
        }
        divergence {
            another_event_at_the_position_has_diverged: "a condition based on an event that is not there is not a conflict but a lost history",
            what_is_beyond_the_head_has_diverged: "`after` beyond the head never lets an append through",
            an_empty_log_holds_nothing_to_go_on_from: "nor does any event or position in an empty log",
            divergence_is_told_before_conflict: "the loss of history is told, even if there is a match as well",
        }
        limits {
            the_longest_type_and_tags_are_stored_and_found: "the largest event that is allowed can be written and found",
            hostile_text_is_only_text: "quotes, SQL, braces, patterns and control characters are stored and found, as data",
            large_and_deep_json_is_kept: "megabytes, 127 levels and 20000 members are read back",
            numbers_keep_every_digit: "numbers are decimals: read back and told apart beyond what a double holds",
            times_are_kept_to_the_microsecond: "also before 1970 and far ahead",
            a_thousand_events_are_one_append: "a large append is one append, and is repeated as one",
            a_wide_filter_is_judged_whole: "filters of thousands of items read and guard to their last item",
            an_append_that_ran_out_of_time_says_what_it_knows: "after a timeout nothing was written; if that is not known, the error says so",
        }
        fixed_streams {
            versions_begin_at_one_and_have_no_gaps: "an append to a stream counts on, also with others in between",
            a_stream_is_begun_only_once: "who expects no stream is refused where one is, with its version",
            an_exact_version_is_neither_higher_nor_lower: "another version is refused, with expected and actual, and writes nothing",
            a_stream_is_as_it_was_loaded: "who has loaded a stream is refused where it is at another version, or another event is at that one",
            any_version_is_as_expected: "without an expectation there is no mismatch",
            a_stream_is_loaded_whole_or_in_part: "from a version on, up to one, a few, from the end; an unknown stream is empty",
            streams_are_told_apart_byte_by_byte: "ids are only text, up to the longest",
            a_repeat_finds_its_versions_whatever_is_expected: "a repeat is recognised before versions are judged; another stream is another append",
            a_condition_and_a_stream_hold_both: "the condition is judged first, the version besides",
            each_version_of_a_stream_has_one_winner: "of racers who expect the same version, one wins",
            appends_at_any_version_share_a_stream_without_gaps: "versions stay contiguous under concurrent appends",
        }
        concurrency {
            each_version_of_a_boundary_has_one_winner: "of racers who have read the same, one wins, who has seen its predecessor",
            a_narrow_and_a_wide_set_of_types_see_each_other: "no write skew between a set of types and one that contains it",
            conditions_by_type_and_by_tag_see_each_other: "no write skew between a condition by type and one by tag",
            conditions_see_appends_that_have_none: "an unconditional append breaks the conditions that it matches",
            conditions_of_several_items_are_judged_as_one: "any item of a condition stops the append, at the same instant as all others",
            conditions_of_every_shape_see_each_other: "conditions on types, tags, payload, metadata and everything race correctly",
            staggered_readers_miss_nothing_below_their_head: "who reads between the commits of others has all events up to the head, and no newer head",
            boundaries_without_common_events_never_conflict: "there is no conflict without an event that matches",
            appends_of_several_events_are_never_mixed_or_seen_in_part: "an append is one step, for its neighbours and for readers",
            no_event_appears_below_one_that_was_seen: "who reads on from the last head misses nothing; what was read stays",
            one_append_made_many_times_at_once_is_written_once: "a repeat is recognised while the first one is in flight",
            a_name_is_taken_by_exactly_one: "a condition without a read before it lets one through",
            nobody_wins_what_was_taken_before: "a condition that was broken before the race lets nobody through",
        }
        dcb {
            a_query_item_matches_one_of_its_types_and_all_of_its_tags: "query item: types are alternatives, tags are not",
            query_items_are_alternatives: "query: an event matches if one item does, as a whole",
            the_query_of_all_events_matches_every_event: "query: all events",
            reading_can_start_after_a_position: "read: from a position on",
            sequence_positions_are_unique_and_increase: "sequence position: unique and increasing",
            an_append_fails_if_any_event_matches_its_query: "append: fails, as a whole, if an event matches the condition",
            events_up_to_after_are_ignored: "append condition: events up to `after` are ignored",
            after_may_be_higher_than_the_last_match: "append condition: `after` is the highest position known, matching or not",
            tags_are_opaque_and_always_exposed: "tags: a set, read back, without meaning to the store",
            each_event_saw_the_last_match_before_it: "its public suite, consistency: under random queries each writer saw its predecessor",
            the_tail_of_the_log_never_reorders: "its public suite, monotonic: what the tail has shown stays as it was",
            unrelated_appends_do_not_fail: "its public suite, parallel writes: there is no conflict between unrelated conditions",
            a_course_is_never_overbooked: "its example: a decision over two entities, without a lock on either",
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

__event_store_cases! { [list] }

/// Generates one test for each case of [`event_store`](crate::testing::event_store), on stores that this expression
/// creates.
///
/// The expression is evaluated anew for each test, and is a future of an empty store; the test runs it on its own tokio
/// runtime. The tests are in modules named after their topics, so invoke the macro inside a module.
///
/// ```
/// mod my_store {
///     mainstem::event_store_tests!(async { mainstem::MemoryEventStore::new() });
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! event_store_tests {
    ($store:expr $(,)?) => {
        fn __fresh_event_store() -> impl ::core::future::Future<Output = impl $crate::EventStore> {
            $store
        }
        $crate::__event_store_cases! { [$crate::__event_store_tests] }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __event_store_tests {
    ($($topic:ident { $($name:ident: $proves:literal,)+ })+) => { $(
        mod $topic { $(
            #[test]
            fn $name() {
                $crate::testing::event_store::__run(::core::stringify!($name), super::__fresh_event_store());
            }
        )+ }
    )+ };
}
