//! The deliberate flaws of a store, and the cases that must detect them.

use mainstem::{Event, Filter, Json, NewEvent, Payload, backend::PredicateGroup};

macro_rules! flaws {
    ($($flaw:ident => [$($case:ident),+];)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Flaw { $($flaw,)+ }

        /// Each flaw, with the cases that a store which has it must fail.
        pub(super) const FLAWS: &[(Flaw, &[&str])] = &[$((Flaw::$flaw, &[$(stringify!($case)),+]),)+];
    };
}

flaws! {
    // Conditions.
    IgnoresConditions => [
        a_matching_event_after_the_read_is_a_conflict, a_read_of_an_empty_log_is_broken_by_the_first_match,
        a_read_that_found_nothing_is_broken_by_the_first_match, an_append_need_not_match_its_own_condition,
        a_condition_is_judged_anew_each_time, an_append_fails_if_any_event_matches_its_query,
        nobody_wins_what_was_taken_before, a_name_is_taken_by_exactly_one, a_course_is_never_overbooked
    ];
    ComparesTheLastMatch => [
        an_unchanged_boundary_takes_the_append, after_may_be_higher_than_the_last_match, only_events_behind_after_count
    ];
    CountsTheEventAtAfter => [only_events_behind_after_count, events_up_to_after_are_ignored];
    BeginsAtTheHead => [a_condition_without_after_counts_every_event, an_append_fails_if_any_event_matches_its_query];
    LooksAtTheLastThousand => [a_condition_from_far_back_is_judged_like_a_near_one];
    NamesTheLastMatch => [a_matching_event_after_the_read_is_a_conflict, a_condition_without_after_counts_every_event];
    BreaksOnAnyEvent => [
        an_unchanged_boundary_takes_the_append, boundaries_without_common_events_never_conflict,
        unrelated_appends_do_not_fail
    ];
    CountsItsOwnEvents => [an_append_does_not_break_its_own_condition];
    GuardsOnlyItsOwnKind => [an_append_need_not_match_its_own_condition, each_shape_of_filter_guards_what_it_reads];
    OverlooksUnconditional => [conditions_see_appends_that_have_none, a_matching_event_after_the_read_is_a_conflict];
    FlattensItemsInConditions => [each_shape_of_filter_guards_what_it_reads];
    IgnoresTheIdOfAfter => [another_event_at_the_position_has_diverged, divergence_is_told_before_conflict];
    PassesBeyondTheHead => [what_is_beyond_the_head_has_diverged, an_empty_log_holds_nothing_to_go_on_from];
    TellsConflictFirst => [divergence_is_told_before_conflict];
    // Repeats.
    WritesRepeatsAgain => [a_repeated_append_returns_the_first_ones_positions, ids_of_other_events_are_refused];
    ComparesOnlyIds => [ids_of_other_events_are_refused];
    TakesAPartForARepeat => [ids_of_other_events_are_refused];
    JudgesBeforeRepeats => [a_repeat_is_answered_whatever_its_condition_says_now];
    ComparesJsonAsText => [an_event_of_the_same_value_is_the_same_event];
    ComparesBytesByLength => [opaque_bytes_are_compared_byte_by_byte];
    ComparesWhereEventsComeFrom => [a_repeat_from_elsewhere_is_the_same_event];
    KeepsIdsOfTheRefused => [a_refused_append_leaves_its_ids_free];
    TakesEqualContentForRepeats => [an_append_without_a_condition_is_written_whatever_the_log_holds];
    // What is written.
    WritesWhenCalled => [an_append_that_is_never_awaited_writes_nothing];
    WritesBeforeJudging => [an_append_is_whole_or_not_there];
    WritesOneByOne => [
        an_abandoned_append_is_whole_or_not_there_and_can_be_made_again,
        appends_of_several_events_are_never_mixed_or_seen_in_part
    ];
    WritesAndSaysTimeout => [an_append_that_ran_out_of_time_says_what_it_knows];
    LeavesGapsInAnAppend => [positions_follow_the_order_of_the_appends];
    UsesOnePositionForAll => [sequence_positions_are_unique_and_increase, positions_follow_the_order_of_the_appends];
    DropsMetadata => [events_are_read_as_they_were_written, ids_of_messages_are_in_the_metadata];
    KeepsBytesAsText => [opaque_bytes_are_read_as_they_were_written];
    OccursWhenItIsMade => [an_event_may_occur_when_it_is_recorded];
    RoundsNumbers => [numbers_keep_every_digit];
    KeepsMilliseconds => [times_are_kept_to_the_microsecond, events_are_read_as_they_were_written];
    CutsLongText => [the_longest_type_and_tags_are_stored_and_found];
    EscapesQuotes => [hostile_text_is_only_text];
    SplitsTags => [tags_are_opaque_and_always_exposed];
    TakesNoLargeEvents => [large_and_deep_json_is_kept];
    TakesFewEvents => [a_thousand_events_are_one_append];
    // What is read.
    FailsOnAnEmptyLog => [an_empty_log_has_no_events_and_no_head];
    LosesTheHeadOfAnEmptyRead => [the_head_is_the_logs_last_event_whatever_was_asked_for];
    TakesTheLastMatchForTheHead => [the_head_is_the_logs_last_event_whatever_was_asked_for];
    ReadsAtMostAThousand => [a_long_read_is_complete];
    ReadsBackwards => [each_shape_of_filter_reads_what_matches, positions_follow_the_order_of_the_appends];
    LeavesOutTheLastPosition => [a_position_bound_reads_what_comes_after_it];
    ReadsTheEventAtTheBound => [
        a_position_bound_reads_what_comes_after_it, reading_can_start_after_a_position,
        pages_one_after_the_other_are_the_whole
    ];
    LeavesOutTheEndOfTime => [a_time_bound_reads_what_occurred_in_it];
    ReadsWhatWasBefore => [a_strong_read_sees_every_append_that_was_acknowledged];
    // What is read in part, counted and streamed.
    IgnoresTheLimit => [a_limit_reads_the_first_that_match];
    LimitsBeforeItReverses => [newest_first_is_the_same_read_backwards, the_last_match_is_the_last_of_the_read];
    IgnoresTheOrder => [newest_first_is_the_same_read_backwards, a_part_is_streamed_in_its_order];
    LimitsBeforeItFilters => [a_limit_reads_the_first_that_match, the_last_match_is_the_last_of_the_read];
    CountsTheWholeLog => [a_count_is_that_of_the_read];
    CountsWithoutBounds => [a_count_is_that_of_the_read];
    FindsWhatIsBeyondTheBounds => [existence_is_that_of_the_read];
    FindsAnythingInALog => [existence_is_that_of_the_read];
    StreamsToTheHeadOfItsEnd => [
        a_stream_ends_at_the_head_of_its_start, a_stream_among_appends_is_the_log_up_to_its_head
    ];
    StreamsAPageTwice => [a_long_stream_is_complete, a_part_is_streamed_in_its_order];
    StreamsOnePage => [a_long_stream_is_complete];
    StreamsWhatWasThereWhenItWasMade => [the_end_of_a_stream_vouches_for_all_of_it];
    StreamsTheLastMatchAsTheHead => [a_stream_is_the_read_event_by_event];
    // What is read on, piece by piece.
    HasPiecesOfAnySize => [a_piece_ends_at_its_bytes];
    LeavesOutTheEventWithoutRoom => [a_piece_ends_at_its_bytes, pieces_of_the_log_are_the_whole];
    LeavesOutWhatIsTooLarge => [a_piece_ends_at_its_bytes];
    TakesTheLimitForTheEnd => [pieces_of_the_log_are_the_whole];
    ReachesTheHeadFromItsWindow => [a_piece_up_to_a_position_looks_no_further, pieces_among_appends_are_the_log];
    ReadsOnFromAnyMark => [reading_on_from_what_the_log_does_not_hold_has_diverged];
    TakesALimitOfZeroForNone => [a_piece_of_no_events_only_asks_for_its_place];
    // What is waited for.
    SleepsForEver => [a_wait_for_what_is_there_ends, a_wait_ends_with_the_next_append, a_wait_after_a_lost_event_ends];
    WaitsForTheNextAppend => [a_wait_for_what_is_there_ends, a_wait_after_a_lost_event_ends];
    SleepsThroughWhatComesAtOnce => [no_append_is_slept_through];
    WaitsAtLostEvents => [a_wait_after_a_lost_event_ends];
    NeverRests => [a_wait_without_news_goes_on];
    IgnoresTokens => [a_read_at_least_as_new_as_an_append_contains_it];
    // Fixed streams.
    IgnoresExpectedVersions => [
        a_stream_is_begun_only_once, an_exact_version_is_neither_higher_nor_lower, each_version_of_a_stream_has_one_winner,
        a_condition_and_a_stream_hold_both
    ];
    TakesAHigherVersion => [an_exact_version_is_neither_higher_nor_lower];
    IgnoresTheEventOfAVersion => [a_stream_is_as_it_was_loaded];
    TakesAnyForNone => [any_version_is_as_expected];
    CountsVersionsOfTheLog => [versions_begin_at_one_and_have_no_gaps];
    IgnoresTheCaseOfStreams => [streams_are_told_apart_byte_by_byte];
    LoadsTheEventAtTheVersion => [a_stream_is_loaded_whole_or_in_part];
    LoadsTheFirstBackwards => [a_stream_is_loaded_whole_or_in_part];
    ForgetsTheStreamOfARepeat => [a_repeat_finds_its_versions_whatever_is_expected];
    JudgesVersionsBeforeRepeats => [a_repeat_finds_its_versions_whatever_is_expected];
    TellsVersionsFirst => [a_condition_and_a_stream_hold_both];
    NumbersThenWrites => [appends_at_any_version_share_a_stream_without_gaps];
    // Filters, read and guarded by.
    FlattensItems => [
        each_shape_of_filter_reads_what_matches, each_shape_of_filter_guards_what_it_reads, query_items_are_alternatives
    ];
    TakesAnyTagForAll => [
        a_query_item_matches_one_of_its_types_and_all_of_its_tags, each_shape_of_filter_reads_what_matches
    ];
    MatchesNothingByAnyEvent => [any_event_guards_the_whole_log, the_query_of_all_events_matches_every_event];
    LooksIntoBytes => [predicates_never_match_opaque_bytes];
    IgnoresCase => [types_and_tags_are_compared_byte_by_byte];
    ReadsAThousandItems => [a_wide_filter_is_judged_whole];
    // Races.
    JudgesThenWrites => [
        each_version_of_a_boundary_has_one_winner, a_narrow_and_a_wide_set_of_types_see_each_other,
        conditions_by_type_and_by_tag_see_each_other, conditions_of_several_items_are_judged_as_one,
        conditions_of_every_shape_see_each_other, each_version_of_a_stream_has_one_winner,
        one_append_made_many_times_at_once_is_written_once,
        a_name_is_taken_by_exactly_one, a_course_is_never_overbooked, each_event_saw_the_last_match_before_it
    ];
    LocksByFilter => [
        a_narrow_and_a_wide_set_of_types_see_each_other, conditions_by_type_and_by_tag_see_each_other,
        conditions_of_several_items_are_judged_as_one, a_course_is_never_overbooked,
        each_event_saw_the_last_match_before_it
    ];
    LocksOnlyConditions => [conditions_see_appends_that_have_none];
    DrawsPositionsFirst => [
        no_event_appears_below_one_that_was_seen, the_tail_of_the_log_never_reorders, pieces_among_appends_are_the_log
    ];
    TakesANewerHead => [staggered_readers_miss_nothing_below_their_head, each_event_saw_the_last_match_before_it];
}

/// What is written of an event.
pub(super) fn stored(flaw: Option<Flaw>, event: NewEvent) -> NewEvent {
    let rebuilt = |text: &dyn Fn(&str) -> String, payload: Payload| {
        let rebuilt = NewEvent::from_payload(text(event.event_type()), payload)
            .with_id(event.id())
            .with_tags(event.tags().map(text))
            .with_metadata_json(event.metadata().clone());
        match event.occurred_at() {
            Some(time) => rebuilt.with_occurred_at(time),
            None => rebuilt.occurred_when_recorded(),
        }
    };
    let payload = event.payload().clone();
    match flaw {
        Some(Flaw::DropsMetadata) => event.with_metadata_json(Json::default()),
        Some(Flaw::RoundsNumbers) => {
            let text = payload.as_json().map(Json::as_str).unwrap_or_default();
            let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
            rebuilt(&str::to_owned, Json::from_serialize(&value).expect("JSON").into())
        }
        Some(Flaw::KeepsMilliseconds) => {
            let time = event.occurred_at().unwrap_or(std::time::UNIX_EPOCH);
            let micros = time.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis());
            let time = std::time::Duration::from_millis(u64::try_from(micros).expect("milliseconds"));
            event.with_occurred_at(std::time::UNIX_EPOCH + time)
        }
        Some(Flaw::CutsLongText) => rebuilt(&|text| text.chars().take(100).collect(), payload),
        Some(Flaw::KeepsBytesAsText) => match payload.as_bytes() {
            Some((content_type, bytes)) => {
                let text = String::from_utf8_lossy(bytes).into_owned();
                rebuilt(&str::to_owned, Payload::bytes(content_type, text.into_bytes()))
            }
            None => event,
        },
        Some(Flaw::OccursWhenItIsMade) if event.occurred_at().is_none() => {
            event.with_occurred_at(std::time::SystemTime::now())
        }
        Some(Flaw::EscapesQuotes) => rebuilt(&|text| text.replace('\'', "''"), payload),
        Some(Flaw::SplitsTags) => {
            let tags: Vec<String> = event.tags().flat_map(|tag| tag.split(':')).map(str::to_owned).collect();
            event.with_tags(tags)
        }
        _ => event,
    }
}

pub(super) fn matches(flaw: Option<Flaw>, filter: &Filter, event: &Event) -> bool {
    if let (Some(Flaw::LooksIntoBytes), Some((_, bytes))) = (flaw, event.payload().as_bytes()) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let Ok(json) = Json::from_text(text) else { return filter.matches(event) };
        let seen = NewEvent::from_json(event.event_type(), json).with_tags(event.tags().map(str::to_owned));
        let seen = seen.with_metadata_json(event.metadata().clone());
        return filter.matches(&seen.into_recorded(event.position(), event.recorded_at()));
    }
    let Some(mut items) = filter.items() else { return flaw != Some(Flaw::MatchesNothingByAnyEvent) };
    match flaw {
        Some(Flaw::FlattensItems) if items.len() > 1 => {
            let items: Vec<_> = items.collect();
            let types: Vec<&str> = items.iter().flat_map(|item| item.types()).collect();
            let tags: Vec<&str> = items.iter().flat_map(|item| item.tags()).collect();
            let predicates = items.iter().all(|item| item.predicates().is_none());
            (types.is_empty() || types.contains(&event.event_type()))
                && (tags.is_empty() || tags.iter().any(|tag| event.has_tag(tag)))
                && (predicates || filter.matches(event))
        }
        Some(Flaw::TakesAnyTagForAll) => items.any(|item| {
            let plain = !matches!(item.predicates(), Some(PredicateGroup::AnyOf(_) | PredicateGroup::AllOf(_)));
            let typed = item.types().len() == 0 || item.types().any(|it| it == event.event_type());
            let tagged = item.tags().len() == 0 || item.tags().any(|tag| event.has_tag(tag));
            if plain { typed && tagged } else { filter.matches(event) }
        }),
        Some(Flaw::IgnoresCase) => {
            let alike = |item: &mainstem::backend::FilterItem| {
                item.tags().len() == 0
                    && item.predicates().is_none()
                    && item.types().any(|it| it.eq_ignore_ascii_case(event.event_type()))
            };
            filter.matches(event) || items.any(alike)
        }
        Some(Flaw::ReadsAThousandItems) if items.len() > 1_000 => {
            let read = items.take(1_000).flat_map(|item| item.tags()).any(|tag| event.has_tag(tag));
            read && filter.matches(event)
        }
        _ => filter.matches(event),
    }
}

/// Whether the ids of messages are the same.
pub(super) fn comes_from_the_same(event: &NewEvent, recorded: &Event) -> bool {
    event.message_id() == recorded.message_id()
        && event.causation_id() == recorded.causation_id()
        && event.correlation_id() == recorded.correlation_id()
}

/// All that an event says, but not its id.
pub(super) fn as_text(event: &Event) -> String {
    let tags: Vec<&str> = event.tags().collect();
    format!("{} {tags:?} {} {}", event.event_type(), event.payload(), event.metadata())
}
