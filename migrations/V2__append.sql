-- The only way into the log: lock, judge, insert and commit in one statement whose arguments have fully arrived.
--
-- It takes a batch: several appends, each with a condition of its own, each judged alone against the log. The client makes sure
-- that no append breaks the condition of a later one in the batch. A single append is a batch of one.
--
-- It is a procedure because it commits by itself: the lock is free before the client's next message is due, so a slow or
-- dead client never holds it. It must be called outside of a transaction block. The number in its name is the
-- version of its arguments: while instances of two versions of an application run, each finds its own.
--
-- A procedure that commits cannot have a search_path of its own, and a function or operator of another schema in the caller's
-- path is preferred to a polymorphic one of pg_catalog. So every call here that takes "any" array or element is qualified.
--
-- outcome     meaning                                                                 position, type
-- NULL        written, after `head` and what the appends before it have written
-- repeated    these very events are already there: an earlier attempt succeeded       their first position
-- conflict    an event after `after_positions` matches one of the items               that event
-- diverged    the log does not hold the event `after_ids` at `after_positions`        the log's head
-- far         too many events since `after_positions` to check under the lock         the log's head
-- reused      some of the ids are taken: by other content, or not by all of them      the first position with one
-- version     the stream's version is not the expected one                            the stream's version
-- replaced    it is, but another event has it than the expected one                   the stream's version
CREATE PROCEDURE "mainstem"."events_append_1"(
    -- Of each event, in the order of the appends:
    IN new_ids           uuid[],
    IN new_types         text[],
    -- an array of texts, as text: a slice of an array of arrays would be quadratic in the number of events;
    IN new_tags          text[],
    IN new_metadata      jsonb[],
    IN new_payloads      jsonb[],
    -- for those without a payload (NULL, when all have one);
    IN new_bytes         bytea[],
    IN new_content_types text[],
    -- NULL for "when it is recorded";
    IN new_occurred_at   timestamptz[],
    -- which append it belongs to, from 1, and how many events of that append come after it.
    IN new_appends       int4[],
    IN new_following     int4[],
    -- Of each append: the condition that no event after `after_positions` may match any of the items. NULL for none.
    --   item = {"types": [text, …], "tags": [text, …], "groups": [[predicate, …], …]}, each part optional;
    --   a type matches one of the types, all tags must be there, and of each group one predicate must be contained:
    --   predicate = {"payload": document} or {"metadata": document}.
    --   They are texts of JSON arrays, since most are never parsed: usually no event after `after_positions` has their keys.
    IN after_positions   bigint[],
    IN after_ids         uuid[],
    IN items             text[],
    -- Of each append: the stream that its events belong to, and the version that this must have before. NULL for none,
    -- and for whatever it has (also altogether).
    IN streams           text[],
    IN stream_versions   bigint[],
    -- The id of the stream's last event, which must have that version. NULL for whatever event has (also altogether).
    IN stream_events     uuid[],
    -- What the conditions of a batch look for, as pairs of a field and a value. An event that has none of an append's values in
    -- these fields cannot match its items. The fields are: 0 the tags; -1 the type; -2 matches any event, the value is null;
    -- n the n-th path of the payload; -2 - n the n-th path of the metadata.
    IN key_appends       int4[],
    IN key_places        int4[],
    -- an array of JSON, as text: it is parsed only if another client has written in between;
    IN key_values        text,
    -- each an array of texts, as text like `new_tags`.
    IN payload_paths     text[],
    IN metadata_paths    text[],
    -- Of conditions on the whole log, all of whose items have tags: the append of each item, and its tags, as text like
    -- `new_tags`. If no event has all tags of an item, no event matches that item. NULL for none.
    IN whole_appends     int4[],
    IN whole_tags        text[],
    -- How long to wait for the lock, in milliseconds, and whether another process is likely to have it.
    IN lock_timeout_ms   int4,
    IN crowded           bool,
    -- The name under which the session remembers this call once all of it is written. NULL: it does not.
    IN call_id           uuid,
    -- The call before it, to which the client had no answer yet: its name, the head that it found, and the id of the event there.
    -- If the session remembers exactly that, nobody has written between that head and the events of that call, and those the
    -- client has checked itself. Then the next two parameters replace `after_positions` and `after_ids`.
    IN predecessor       text,
    IN predecessor_positions bigint[],
    IN predecessor_ids   uuid[],
    -- Ids of appends that are not sent, since their condition is known to be broken; returned are those that are in the log
    -- all the same.
    INOUT looked_up      uuid[],
    -- The position of the last event before the batch, 0 for none; the outcome of each append, or NULL when all are
    -- written; the version of each append's last event, or NULL when none goes to a stream; a place in the WAL that a
    -- replica must have replayed to show them; and for how long the lock was held until the commit, in microseconds, NULL if
    -- it was not taken. What the commit then waits for is the same for one event and for many, but for deferred triggers.
    INOUT head           bigint,
    INOUT outcomes       text[],
    INOUT positions      bigint[],
    INOUT types          text[],
    INOUT versions       bigint[],
    INOUT lsn            pg_lsn,
    INOUT locked_us      bigint
) LANGUAGE plpgsql AS $body$
-- A column of the user's may be called like a variable; all that is meant as a column here is qualified.
#variable_conflict use_variable
DECLARE
    -- The most events that are checked under the lock: this takes about a millisecond for small ones, and tens of milliseconds
    -- when the conditions look into payloads of 20 kB.
    near CONSTANT  bigint := 1000;
    -- These say where an event comes from, which is not part of what it is: a repeat may come from elsewhere.
    context_ids CONSTANT text[] := '{MessageID,CausationID,CorrelationID}';
    count          int4   := pg_catalog.cardinality(after_positions);
    amount         int4   := pg_catalog.cardinality(new_ids);
    head_id        uuid;
    since          bigint; unfit bool;
    searched       bigint; with_tags int4[]; one_append int4;
    hashes         int4[];
    some_in_common bool;
    -- Whether this look is the one under the lock, and the head that the one before it has found.
    locked         bool   := NOT coalesce(crowded, false) OR key_appends IS NULL;
    looked_until   bigint;
    locked_at      timestamptz;
    refused        bool   := false;
    first          bigint;
    last_version   bigint; last_event uuid;
    size           int4; place int4; next_event int4 := 1;
    -- The last version of each stream of the batch.
    known_streams  text[]   := '{}';
    known_versions bigint[] := '{}';
    -- and the event that has it.
    known_events   uuid[]   := '{}';
    recorded       timestamptz;
    due            bigint; written bigint;
    done           text;
    hit            record;
BEGIN
    -- A snapshot from before the lock would not show what was committed while we waited for it.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'an append runs at READ COMMITTED, not at %', current_setting('transaction_isolation')
            USING ERRCODE = 'invalid_transaction_state',
                  HINT = 'set default_transaction_isolation to ''read committed'' for the role that appends';
    END IF;
    -- Every statement here takes a few rows by an index, whatever the arguments are, so its plan can be made once: planning the
    -- search for the ids each time would take longer than the search. A plan made while the log is nearly empty must not be a scan
    -- of the whole table. (Assignments, since PERFORM would run the executor for each.)
    done := set_config('lock_timeout', lock_timeout_ms::text, true) || set_config('jit', 'off', true)
        || set_config('plan_cache_mode', 'force_generic_plan', true) || set_config('enable_seqscan', 'off', true)
        -- Above it, an index on tags leaves out what it likes of what it finds.
        || set_config('gin_fuzzy_search_limit', '0', true);

    -- Only this session changes what it remembers, so this needs no lock.
    IF predecessor = current_setting('mainstem.written', true) THEN
        after_positions := predecessor_positions;
        after_ids := predecessor_ids;
    END IF;

    -- A condition on the whole log holds up to the head if no event has its tags, as is the case for everything new. The tags are
    -- looked up without the lock, so that nobody waits for it. The head is read first: the later snapshot has all events up to it.
    IF whole_tags IS NOT NULL THEN
        searched := coalesce((SELECT e.position FROM "mainstem"."events" e ORDER BY e.position DESC LIMIT 1), 0);
        with_tags := ARRAY(
            SELECT w.append FROM unnest(whole_appends, whole_tags) AS w(append, tags)
            WHERE EXISTS (SELECT FROM "mainstem"."events" e
                          WHERE e.tags OPERATOR(pg_catalog.@>) w.tags::text[] AND e.tags OPERATOR(pg_catalog.<>) '{}'));
        FOREACH one_append IN ARRAY whole_appends LOOP
            CONTINUE WHEN one_append = ANY (with_tags);
            after_positions[one_append] := searched;
        END LOOP;
    END IF;

    outcomes := pg_catalog.array_fill(NULL::text, ARRAY[count]);
    positions := pg_catalog.array_fill(NULL::bigint, ARRAY[count]);
    types := outcomes;
    versions := CASE WHEN streams IS NOT NULL THEN positions END;

    -- Where others write as well, nearly all events to be checked are there before we have the lock, and everybody would wait while
    -- we check them. So they are checked first without it, and then under the lock only those that have come since.
    LOOP
        -- One lock per log. The table's oid, moved into the range of int4, beside a number of our own.
        IF locked THEN
            done := pg_advisory_xact_lock(1296651085, (('"mainstem"."events"'::regclass)::oid::bigint - 2147483648)::int4);
            locked_at := clock_timestamp();
        END IF;

        -- Under the lock every statement sees everything that was ever committed to this log. The head is read first: if anybody
        -- inserts without the lock, either the check sees it or the primary key refuses ours.
        SELECT e.position, e.id INTO head, head_id FROM "mainstem"."events" e ORDER BY e.position DESC LIMIT 1;
        head := coalesce(head, 0);
        -- An event that replicas show may be hidden here, while its commit waits for its standby and holds the lock.
        IF NOT locked AND head < ANY (after_positions) THEN locked := true; CONTINUE; END IF;

        IF locked AND looked_up IS NOT NULL THEN
            looked_up := ARRAY(SELECT e.id FROM "mainstem"."events" e WHERE e.id = ANY (looked_up));
        END IF;

        -- Were these ids appended before? This comes before the conditions, which the first attempt's own events might break.
        IF EXISTS (SELECT FROM "mainstem"."events" e WHERE e.id = ANY (new_ids)) THEN
            FOR hit IN
                SELECT n.append, min(e.position) AS position
                FROM unnest(new_ids, new_appends) AS n(id, append) JOIN "mainstem"."events" e ON e.id = n.id
                GROUP BY n.append
            LOOP
                first := hit.position;
                SELECT count(*) = max(n.following) + 1 AND bool_and(coalesce(e.id = n.id AND e.following = n.following
                        AND e.type = n.type AND e.tags OPERATOR(pg_catalog.=) n.tags::text[]
                        AND (e.metadata = n.metadata
                             OR CASE WHEN jsonb_typeof(e.metadata) = 'object' AND jsonb_typeof(n.metadata) = 'object'
                                     THEN e.metadata - context_ids = n.metadata - context_ids END)
                        AND e.payload IS NOT DISTINCT FROM n.payload AND e.bytes IS NOT DISTINCT FROM n.bytes
                        AND e.content_type IS NOT DISTINCT FROM n.content_type
                        AND e.occurred_at = coalesce(n.occurred_at, e.recorded_at)
                        AND e.stream IS NOT DISTINCT FROM streams[hit.append], false)), max(e.version)
                    INTO refused, last_version
                    FROM unnest(new_ids, new_types, new_tags, new_metadata, new_payloads, new_bytes, new_content_types,
                                new_occurred_at, new_appends, new_following) WITH ORDINALITY
                        AS n(id, type, tags, metadata, payload, bytes, content_type, occurred_at, append, following, index)
                    LEFT JOIN "mainstem"."events" e
                        ON e.position = first + (SELECT max(m.following) FROM unnest(new_appends, new_following)
                                                 AS m(append, following) WHERE m.append = hit.append) - n.following
                    WHERE n.append = hit.append;
                positions[hit.append] := first;
                IF refused AND NOT EXISTS (
                    SELECT FROM "mainstem"."events" e WHERE e.position = first - 1 AND e.following > 0)
                THEN
                    outcomes[hit.append] := 'repeated';
                    IF streams IS NOT NULL THEN
                        versions[hit.append] := last_version;
                    END IF;
                ELSE
                    outcomes[hit.append] := 'reused';
                END IF;
                after_positions[hit.append] := NULL;
            END LOOP;
            refused := true;
        END IF;

        -- Is what the clients have read still the history of this log, and is it recent enough? For those that have read up to the
        -- head, there is nothing to look up or to check.
        unfit := false;
        since := head;
        IF head - looked_until <= near THEN
            since := looked_until;
        ELSIF head <> ANY (after_positions) OR head_id <> ANY (after_ids) THEN
            SELECT min(a.position), bool_or(a.position > head OR head - a.position > near OR a.id <> e.id) INTO since, unfit
                FROM unnest(after_positions, after_ids) AS a(position, id)
                LEFT JOIN "mainstem"."events" e ON e.position = a.position AND a.id IS NOT NULL;
        END IF;
        IF unfit THEN
            FOR hit IN
                SELECT a.append, a.position <= head AND (a.id IS NULL OR a.id IS NOT DISTINCT FROM e.id) AS held
                FROM unnest(after_positions, after_ids) WITH ORDINALITY AS a(position, id, append)
                LEFT JOIN "mainstem"."events" e ON e.position = a.position AND a.id IS NOT NULL
                WHERE a.position > head OR head - a.position > near OR a.position IS NOT NULL AND a.id <> e.id
            LOOP
                refused := true;
                outcomes[hit.append] := CASE WHEN hit.held THEN 'far' ELSE 'diverged' END;
                positions[hit.append] := head;
                after_positions[hit.append] := NULL;
            END LOOP;
            SELECT min(a.position) INTO since FROM pg_catalog.unnest(after_positions) AS a(position);
        END IF;

        -- Has an event come that one of the conditions forbids? Most events have nothing that the conditions look for.
        some_in_common := false;
        IF since < head AND key_appends IS NOT NULL THEN
            DECLARE
                -- Nearly all batches have no more paths. A loop over a list would take several times as long.
                path_1    CONSTANT text[] := payload_paths[1]::text[]; path_2 CONSTANT text[] := payload_paths[2]::text[];
                path_3    CONSTANT text[] := payload_paths[3]::text[]; path_4 CONSTANT text[] := payload_paths[4]::text[];
                no_others CONSTANT bool   := payload_paths[5] IS NULL AND metadata_paths IS NULL AND -2 <> ALL (key_places);
                by_type   CONSTANT bool   := -1 = ANY (key_places); by_tags CONSTANT bool := 0 = ANY (key_places);
            BEGIN
                IF hashes IS NULL THEN
                    hashes := ARRAY(SELECT jsonb_hash(v.value) FROM jsonb_array_elements(key_values::jsonb) AS v(value));
                END IF;
                -- Equal values have equal hashes, others may have.
                some_in_common := NOT no_others OR EXISTS (
                    -- There are no more than that, so the limit changes no result. It makes the planner walk the few entries at
                    -- the end of the primary key, whatever it estimates.
                    SELECT FROM (SELECT * FROM "mainstem"."events" l WHERE l.position > since
                                 ORDER BY l.position LIMIT 1000) AS e
                    WHERE jsonb_hash(e.payload #> path_1) = ANY (hashes) OR jsonb_hash(e.payload #> path_2) = ANY (hashes)
                       OR jsonb_hash(e.payload #> path_3) = ANY (hashes) OR jsonb_hash(e.payload #> path_4) = ANY (hashes)
                       OR by_type AND jsonb_hash(pg_catalog.to_jsonb(e.type)) = ANY (hashes)
                       OR by_tags AND EXISTS (SELECT FROM pg_catalog.unnest(e.tags) AS t(tag)
                                              WHERE jsonb_hash(pg_catalog.to_jsonb(t.tag)) = ANY (hashes)));
            END;
        END IF;
        IF some_in_common THEN
            -- Checking every event against every condition would be quadratic. So the values that the conditions look for are joined
            -- with those that the events have, and only pairs with a value in common are checked.
            FOR hit IN
                WITH event AS MATERIALIZED (
                    SELECT l.position, l.type, l.tags, l.payload, l.metadata
                    FROM "mainstem"."events" l WHERE l.position > since ORDER BY l.position LIMIT 1000
                ), path AS MATERIALIZED (
                    SELECT p.place::int4 AS place, true AS of_payload, p.steps::text[] AS steps
                    FROM pg_catalog.unnest(payload_paths) WITH ORDINALITY AS p(steps, place)
                    UNION ALL
                    SELECT -2 - p.place::int4, false, p.steps::text[]
                    FROM pg_catalog.unnest(metadata_paths) WITH ORDINALITY AS p(steps, place)
                ), has AS (
                    SELECT e.position, 0 AS place, pg_catalog.to_jsonb(t.tag) AS value
                    FROM event e CROSS JOIN pg_catalog.unnest(e.tags) AS t(tag) WHERE 0 = ANY (key_places)
                    UNION ALL
                    SELECT e.position, -1, pg_catalog.to_jsonb(e.type) FROM event e WHERE -1 = ANY (key_places)
                    UNION ALL
                    SELECT e.position, -2, 'null' FROM event e WHERE -2 = ANY (key_places)
                    UNION ALL
                    SELECT e.position, p.place, CASE WHEN p.of_payload THEN e.payload ELSE e.metadata END #> p.steps
                    FROM event e CROSS JOIN path p
                ), pair AS (
                    SELECT DISTINCT k.append, has.position
                    FROM unnest(key_appends, key_places, ARRAY(SELECT jsonb_array_elements(key_values::jsonb)))
                        AS k(append, place, value)
                    JOIN has ON has.place = k.place AND has.value = k.value
                ), guard AS MATERIALIZED (
                    SELECT a.append, a.position, a.items::jsonb AS items
                    FROM unnest(after_positions, items) WITH ORDINALITY AS a(position, items, append)
                    WHERE a.append IN (SELECT p.append FROM pair p)
                )
                SELECT DISTINCT ON (a.append) a.append, e.position, e.type
                FROM pair
                JOIN guard a ON a.append = pair.append
                JOIN event e ON e.position = pair.position
                -- After the head there may be events that our own first attempt has written since we looked for them.
                WHERE e.position > a.position AND (locked OR e.position <= head)
                  AND EXISTS (
                      SELECT FROM jsonb_array_elements(a.items) AS i(item)
                      WHERE (i.item -> 'types'::text IS NULL OR i.item -> 'types'::text ? e.type)
                        AND (i.item -> 'tags'::text IS NULL OR pg_catalog.to_jsonb(e.tags) @> (i.item -> 'tags'::text))
                        AND NOT EXISTS (
                            SELECT FROM jsonb_array_elements(i.item -> 'groups'::text) AS g(alternatives)
                            WHERE NOT EXISTS (
                                SELECT FROM jsonb_array_elements(g.alternatives) AS p(predicate)
                                WHERE e.payload @> (p.predicate -> 'payload'::text)
                                   OR e.metadata @> (p.predicate -> 'metadata'::text))))
                ORDER BY a.append, e.position
            LOOP
                refused := true;
                outcomes[hit.append] := 'conflict';
                positions[hit.append] := hit.position;
                types[hit.append] := hit.type;
                after_positions[hit.append] := NULL;
            END LOOP;
        END IF;

        -- Appends that have lost need no lock. The others are checked only after this head, once they have it.
        EXIT WHEN locked OR looked_up IS NULL AND pg_catalog.array_position(outcomes, NULL) IS NULL;
        locked := true;
        looked_until := head;
        after_positions := ARRAY(SELECT CASE WHEN a.position IS NOT NULL THEN head END FROM pg_catalog.unnest(after_positions)
                                 WITH ORDINALITY AS a(position, append) ORDER BY a.append);
        after_ids := pg_catalog.array_fill(NULL::uuid, ARRAY[count]);
    END LOOP;

    IF refused AND ('repeated' = ANY (outcomes) OR 'reused' = ANY (outcomes)) THEN
        -- The first attempt may still wait for its standby, or its answer was lost in that wait. A WAL record of our own makes
        -- this commit wait as well, so "repeated" promises as much as "appended". So does "reused", by which an import finds what
        -- it has written in chunks of another size.
        PERFORM pg_logical_emit_message(true, 'mainstem', '');
    END IF;

    -- The versions of streams depend on the appends before it in the batch, and are settled in order.
    IF streams IS NOT NULL THEN
        FOR append_number IN 1..count LOOP
            size := new_following[next_event] + 1;
            next_event := next_event + size;
            CONTINUE WHEN outcomes[append_number] IS NOT NULL OR streams[append_number] IS NULL;
            place := pg_catalog.array_position(known_streams, streams[append_number]);
            IF place IS NULL THEN
                SELECT e.version, e.id INTO last_version, last_event FROM "mainstem"."events" e
                    WHERE e.stream = streams[append_number] ORDER BY e.version DESC LIMIT 1;
                place := pg_catalog.cardinality(known_streams) + 1;
                known_streams[place] := streams[append_number];
                known_versions[place] := coalesce(last_version, 0);
                known_events[place] := last_event;
            END IF;
            IF stream_versions[append_number] <> known_versions[place] THEN
                refused := true;
                outcomes[append_number] := 'version';
                positions[append_number] := known_versions[place];
            ELSIF stream_events[append_number] <> known_events[place] THEN
                refused := true;
                outcomes[append_number] := 'replaced';
                positions[append_number] := known_versions[place];
            ELSE
                known_versions[place] := known_versions[place] + size;
                known_events[place] := new_ids[next_event - 1];
                versions[append_number] := known_versions[place];
            END IF;
        END LOOP;
    END IF;
    recorded := clock_timestamp();
    IF amount = 1 AND NOT refused THEN
        INSERT INTO "mainstem"."events" (position, following, id, type, tags, metadata, payload, bytes, content_type,
                stream, version, occurred_at, recorded_at)
            VALUES (head + 1, 0, new_ids[1], new_types[1], new_tags[1]::text[], new_metadata[1], new_payloads[1],
                    new_bytes[1], new_content_types[1], streams[1], versions[1],
                    coalesce(new_occurred_at[1], recorded), recorded);
    ELSIF NOT refused THEN
        -- Without a sort, and without a copy of all that is inserted.
        INSERT INTO "mainstem"."events" (position, following, id, type, tags, metadata, payload, bytes, content_type,
                stream, version, occurred_at, recorded_at)
            SELECT head + n.index, new_following[n.index], new_ids[n.index], new_types[n.index],
                   new_tags[n.index]::text[], new_metadata[n.index], new_payloads[n.index], new_bytes[n.index],
                   new_content_types[n.index], streams[new_appends[n.index]],
                   versions[new_appends[n.index]] - new_following[n.index],
                   coalesce(new_occurred_at[n.index], recorded), recorded
            FROM generate_series(1, amount) AS n(index);
    ELSE
    INSERT INTO "mainstem"."events" (position, following, id, type, tags, metadata, payload, bytes, content_type,
            stream, version, occurred_at, recorded_at)
        SELECT head + row_number() OVER (ORDER BY n.index), n.following, n.id, n.type, n.tags::text[], n.metadata,
               n.payload, n.bytes, n.content_type, streams[n.append], versions[n.append] - n.following,
               coalesce(n.occurred_at, recorded), recorded
        FROM unnest(new_ids, new_types, new_tags, new_metadata, new_payloads, new_bytes, new_content_types,
                    new_occurred_at, new_appends, new_following) WITH ORDINALITY
            AS n(id, type, tags, metadata, payload, bytes, content_type, occurred_at, append, following, index)
        WHERE outcomes[n.append] IS NULL;
    END IF;
    -- A trigger of the user's may silently leave out a row, which would then be acknowledged. If there are several appends, the
    -- client finds out which one it was.
    GET DIAGNOSTICS written = ROW_COUNT;
    due := amount;
    IF refused THEN
        SELECT count(*) INTO due FROM pg_catalog.unnest(new_appends) AS n(append) WHERE outcomes[n.append] IS NULL;
    END IF;
    IF written <> due THEN
        RAISE EXCEPTION 'a trigger or a rule of the log has kept % of % events from being written', due - written, due
            USING ERRCODE = 'trigger_protocol_violated',
                  HINT = 'let it raise an error instead: an append is written whole or not at all';
    END IF;
    IF NOT refused THEN outcomes := NULL; positions := NULL; types := NULL; END IF;

    -- It is remembered if this is committed, and only then.
    done := set_config('mainstem.written',
                       CASE WHEN NOT refused THEN call_id::text || ' ' || head::text || ' ' || head_id::text END, false);
    locked_us := (extract(epoch FROM clock_timestamp() - locked_at) * 1000000)::bigint;

    -- Whatever the outcome, this frees the lock, before the client's next message is due.
    COMMIT;

    -- After the commit, and what is flushed holds it. Without a flush it is what is inserted, which may be a little more.
    lsn := CASE current_setting('synchronous_commit') WHEN 'off' THEN pg_current_wal_insert_lsn() ELSE pg_current_wal_flush_lsn() END;
END
$body$;
