//! Deliberate faults of the append procedure, in the drill's database. Unused without `--break`.

use crate::Outcome;

/// A mistake that other stores have made, as changes of the migrations' text.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    changes: &'static [(&'static str, &'static str)],
}

pub(crate) const FAULTS: &[Fault] = &[
    // The check does not see what others are about to write.
    Fault { name: "no-lock", changes: &[(LOCK, "done := concat("), POSITIONS_DRAWN_AT_THE_END] },
    // The lock is taken in the statement that checks, whose snapshot is from before the wait.
    Fault {
        name: "lock-inside-the-guard-statement",
        changes: &[
            (LOCK, "done := concat("),
            NO_LOOK_BEFORE_IT,
            // The guard must run in any case, since the head is read without the lock.
            ("IF since < head AND key_appends", "IF since <= head AND key_appends"),
            ("WHERE l.position > since", LOCKED_WHERE),
            POSITIONS_DRAWN_AT_THE_END,
        ],
    },
    // Under the lock, but only the last match is examined, and a lower one may commit later.
    Fault {
        name: "guard-by-maximum",
        changes: &[
            ("ORDER BY a.append, e.position\n", "ORDER BY a.append, e.position DESC\n"),
            A_PLACE_FOR_WHAT_IS_DRAWN,
            DRAWN_BEFORE_THE_LOCK,
            POSITIONS_DRAWN_BEFORE,
        ],
    },
    // Under the lock and with the right guard, but positions are in the order in which they were drawn.
    Fault {
        name: "positions-from-a-sequence",
        changes: &[A_PLACE_FOR_WHAT_IS_DRAWN, DRAWN_BEFORE_THE_LOCK, POSITIONS_DRAWN_BEFORE],
    },
    // An event must have the tags and predicates of all items, and any of their types.
    Fault {
        name: "flattened-items",
        changes: &[("jsonb_array_elements(a.items)", r#"jsonb_array_elements("mainstem".flattened(a.items))"#)],
    },
    // Under the lock, neither the part examined before is checked again, nor what was added during the wait.
    Fault { name: "no-look-under-the-lock", changes: &[("since := looked_until;", "since := head;")] },
];

const LOCK: &str = "done := pg_advisory_xact_lock(";

const NO_LOOK_BEFORE_IT: (&str, &str) = ("NOT coalesce(crowded, false)", "true");

const LOCKED_WHERE: &str = r#"WHERE (SELECT pg_advisory_xact_lock(1296651085, 1)) IS NOT NULL AND l.position > since"#;

const INSERT: &str = "recorded := clock_timestamp();";

const POSITIONS_DRAWN_AT_THE_END: (&str, &str) =
    (INSERT, r#"recorded := clock_timestamp(); head := "mainstem".draw(amount) - 1;"#);

const A_PLACE_FOR_WHAT_IS_DRAWN: (&str, &str) = ("head_id        uuid;", "head_id        uuid; drawn bigint;");

/// Between the two lies the time of other stores' round trip, and now and then a pause as on a busy machine: followers read
/// what others write in the meantime.
const DRAWN_BEFORE_THE_LOCK: (&str, &str) = (
    LOCK,
    r#"drawn := "mainstem".draw(amount); PERFORM pg_sleep(CASE WHEN random() < 0.05 THEN 0.05 ELSE random() * 0.004 END);
    done := pg_advisory_xact_lock("#,
);

const POSITIONS_DRAWN_BEFORE: (&str, &str) = (INSERT, "recorded := clock_timestamp(); head := drawn - 1;");

/// The functions that the changes call. The numbers of one append are consecutive, so the answers show the positions.
const HELPERS: &str = r#"
    CREATE SEQUENCE "mainstem".drawn;
    CREATE FUNCTION "mainstem".draw(amount int4) RETURNS bigint LANGUAGE plpgsql AS $$
    DECLARE
        first bigint;
    BEGIN
        PERFORM pg_advisory_lock(1, 1);
        first := nextval('"mainstem".drawn');
        PERFORM nextval('"mainstem".drawn') FROM generate_series(2, amount);
        PERFORM pg_advisory_unlock(1, 1);
        RETURN first;
    END
    $$;
    CREATE FUNCTION "mainstem".flattened(items jsonb) RETURNS jsonb STRICT LANGUAGE sql AS $$
        SELECT jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(
            'types', (SELECT jsonb_agg(part) FROM jsonb_array_elements(items) i, jsonb_array_elements(i -> 'types') part),
            'tags', (SELECT jsonb_agg(part) FROM jsonb_array_elements(items) i, jsonb_array_elements(i -> 'tags') part),
            'groups', (SELECT jsonb_agg(part) FROM jsonb_array_elements(items) i, jsonb_array_elements(i -> 'groups') part))))
    $$;
"#;

/// The migrations' text with a fault, and the helpers it needs, which run after it.
pub(crate) fn broken(sql: &str, name: &str) -> Outcome<(String, &'static str)> {
    let fault = FAULTS.iter().find(|fault| fault.name == name).ok_or("no such fault")?;
    let mut sql = sql.to_owned();
    for (part, replacement) in fault.changes {
        if !sql.contains(part) {
            return Err(format!("the migrations have no {part:?} any more: adapt the fault {name}").into());
        }
        sql = sql.replace(part, replacement);
    }
    Ok((sql, HELPERS))
}
