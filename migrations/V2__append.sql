-- The only way into the log: lock, judge, insert and commit in one statement whose arguments have fully arrived.
--
-- It is a procedure because it commits by itself: the lock is free before the client's next message is due, so that no
-- slow or dead client ever holds it. It must be called outside of a transaction block. The number in its name is the
-- version of its arguments: while instances of two versions of an application run, each finds its own.
--
-- A procedure that commits cannot fix its search_path, and a function or operator of another schema in the caller's
-- path is preferred to a polymorphic one of pg_catalog. So whatever takes "any" array or element here is qualified.
--
-- outcome     meaning                                                                 position, type
-- appended    written                                                                 the first new position
-- repeated    these very events are there already: an earlier try had succeeded       their first position
-- conflict    an event after `after_position` matches one of the items                that event
-- diverged    the log does not hold the event `after_id` at `after_position`          the log's head
-- far         too many events since `after_position` to look at under the lock        the log's head
-- reused      some of the ids are taken: by other content, or not by all of them      the first position with one
CREATE PROCEDURE "mainstem"."events_append_1"(
    IN new_ids         uuid[],
    IN new_types       text[],
    -- Of each event a JSON array of texts. Slices of one text array would be quadratic in the number of events.
    IN new_tags        jsonb[],
    IN new_payloads    jsonb[],
    IN new_metadata    jsonb[],
    -- NULL for "when it is recorded".
    IN new_occurred_at timestamptz[],
    -- The condition: no event after `after_position` may match any of the items. NULL for none.
    --   item = {"types": [text, …], "tags": [text, …], "groups": [[predicate, …], …]}, each part optional;
    --   a type matches one of the types, all tags must be there, and of each group one predicate must be contained:
    --   predicate = {"payload": document} or {"metadata": document}.
    IN items           jsonb,
    IN after_position  bigint,
    IN after_id        uuid,
    -- How long to wait for the lock, in milliseconds.
    IN lock_timeout_ms int4,
    INOUT outcome      text,
    INOUT "position"   bigint,
    INOUT type         text
) LANGUAGE plpgsql AS $body$
DECLARE
    -- Events that are judged one by one under the lock: about a millisecond's worth of small ones, and tens of them when
    -- the condition looks into payloads of 20 kB.
    near CONSTANT  bigint := 1000;
    amount         int4   := pg_catalog.cardinality(new_ids);
    head_position  bigint;
    head_id        uuid;
    found_id       uuid;
    found_amount   bigint;
    recorded       timestamptz;
BEGIN
    -- A snapshot from before the lock would not show what was committed while we waited for it.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'an append runs at READ COMMITTED, not at %', current_setting('transaction_isolation')
            USING ERRCODE = 'invalid_transaction_state',
                  HINT = 'set default_transaction_isolation to ''read committed'' for the role that appends';
    END IF;
    -- Every statement here takes a few rows by an index, whatever the arguments are. So its plan can be made once: the
    -- planner would otherwise plan the search for the ids each time, which takes longer than the search. Made while the
    -- log is nearly empty, that plan must not be a scan of the whole table.
    PERFORM set_config('lock_timeout', lock_timeout_ms::text, true), set_config('jit', 'off', true),
            set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_seqscan', 'off', true);

    -- One lock per log. The table's oid, moved into the range of int4, beside a number of our own.
    PERFORM pg_advisory_xact_lock(1296651085, (('"mainstem"."events"'::regclass)::oid::bigint - 2147483648)::int4);

    -- From here on every statement sees all that was ever committed to this log. The head comes first: should anybody
    -- insert without the lock, the guard sees it or the primary key does.
    SELECT e.position, e.id INTO head_position, head_id
        FROM "mainstem"."events" e ORDER BY e.position DESC LIMIT 1;
    head_position := coalesce(head_position, 0);
    outcome := NULL;

    <<judge>>
    BEGIN
        -- Were these ids appended before? That comes before the guard, which the first try's own events might break.
        SELECT count(*), min(e.position) INTO found_amount, "events_append_1"."position"
            FROM "mainstem"."events" e WHERE e.id = ANY (new_ids);
        IF found_amount > 0 THEN
            SELECT count(*) INTO found_amount
                FROM unnest(new_ids, new_types, new_tags, new_payloads, new_metadata, new_occurred_at) WITH ORDINALITY
                    AS n(id, type, tags, payload, metadata, occurred_at, index)
                JOIN "mainstem"."events" e ON e.position = "events_append_1"."position" + n.index - 1
                WHERE e.id = n.id AND e.following = amount - n.index AND e.type = n.type
                  AND pg_catalog.to_jsonb(e.tags) = n.tags AND e.payload = n.payload AND e.metadata = n.metadata
                  AND e.occurred_at = coalesce(n.occurred_at, e.occurred_at);
            IF found_amount <> amount OR EXISTS (
                SELECT FROM "mainstem"."events" e
                WHERE e.position = "events_append_1"."position" - 1 AND e.following > 0)
            THEN
                outcome := 'reused';
                EXIT judge;
            END IF;
            -- The first try may still be waiting for its standby, or its answer was lost in that wait. A record of our
            -- own makes this commit wait as well, so that "repeated" promises as much as "appended".
            PERFORM pg_logical_emit_message(true, 'mainstem', '');
            outcome := 'repeated';
            EXIT judge;
        END IF;

        IF items IS NOT NULL THEN
            -- Is what the client has read still the history of this log?
            IF after_position > head_position THEN
                outcome := 'diverged';
            ELSIF after_id IS NOT NULL THEN
                found_id := head_id;
                IF after_position < head_position THEN
                    SELECT e.id INTO found_id FROM "mainstem"."events" e WHERE e.position = after_position;
                END IF;
                IF found_id IS DISTINCT FROM after_id THEN
                    outcome := 'diverged';
                END IF;
            END IF;
            IF outcome IS NULL AND head_position - after_position > near THEN
                outcome := 'far';
            END IF;
            IF outcome IS NOT NULL THEN
                "position" := head_position;
                EXIT judge;
            END IF;
            -- The limit changes nothing, there are no more. It tells the planner, whatever the numbers are, to walk
            -- the few entries at the end of the primary key.
            SELECT e.position, e.type INTO "events_append_1"."position", "events_append_1".type
                FROM (SELECT * FROM "mainstem"."events" l WHERE l.position > after_position
                      ORDER BY l.position LIMIT 1000) AS e
                WHERE EXISTS (
                    SELECT FROM jsonb_array_elements(items) AS i(item)
                    WHERE (i.item -> 'types' IS NULL OR i.item -> 'types' ? e.type)
                      AND (i.item -> 'tags' IS NULL OR pg_catalog.to_jsonb(e.tags) @> (i.item -> 'tags'))
                      AND NOT EXISTS (
                          SELECT FROM jsonb_array_elements(i.item -> 'groups') AS g(alternatives)
                          WHERE NOT EXISTS (
                              SELECT FROM jsonb_array_elements(g.alternatives) AS p(predicate)
                              WHERE e.payload @> (p.predicate -> 'payload')
                                 OR e.metadata @> (p.predicate -> 'metadata'))))
                ORDER BY e.position LIMIT 1;
            IF FOUND THEN
                outcome := 'conflict';
                EXIT judge;
            END IF;
        END IF;

        recorded := clock_timestamp();
        INSERT INTO "mainstem"."events" (position, following, id, type, tags, payload, metadata, occurred_at, recorded_at)
            SELECT head_position + n.index, amount - n.index, n.id, n.type,
                   ARRAY(SELECT jsonb_array_elements_text(n.tags)),
                   n.payload, n.metadata, coalesce(n.occurred_at, recorded), recorded
            FROM unnest(new_ids, new_types, new_tags, new_payloads, new_metadata, new_occurred_at) WITH ORDINALITY
                AS n(id, type, tags, payload, metadata, occurred_at, index);
        outcome := 'appended';
        "position" := head_position + 1;
    END;

    -- Whatever the outcome, this frees the lock, before the client's next message is due.
    COMMIT;
END
$body$;
