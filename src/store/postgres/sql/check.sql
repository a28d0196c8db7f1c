-- What is not as it must be: a row for each fault, none when all is well. Only catalogs are read, which everybody may.
--
-- $1 is the text of the append procedure, $2 its name and $3 what that of any version of it begins with; $4 and $5 are the
-- indexes of the declared hot keys and what these are. Indexes that are there by choice are only looked at if they are there.
WITH wanted_column (of, name, type, is_required, is_c) AS (VALUES
    ('"mainstem"."events"', 'position', 'bigint', true, false),
    ('"mainstem"."events"', 'occurred_at', 'timestamp with time zone', true, false),
    ('"mainstem"."events"', 'recorded_at', 'timestamp with time zone', true, false),
    ('"mainstem"."events"', 'following', 'integer', true, false),
    ('"mainstem"."events"', 'id', 'uuid', true, false),
    ('"mainstem"."events"', 'type', 'text', true, true),
    ('"mainstem"."events"', 'tags', 'text[]', true, true),
    ('"mainstem"."events"', 'metadata', 'jsonb', true, false),
    ('"mainstem"."events"', 'payload', 'jsonb', false, false),
    ('"mainstem"."events"', 'bytes', 'bytea', false, false),
    ('"mainstem"."events"', 'content_type', 'text', false, true),
    ('"mainstem"."events"', 'stream', 'text', false, true),
    ('"mainstem"."events"', 'version', 'bigint', false, false),
    ('"mainstem"."events_snapshots"', 'projection', 'text', true, true),
    ('"mainstem"."events_snapshots"', 'version', 'bigint', true, false),
    ('"mainstem"."events_snapshots"', 'filter', 'bytea', true, false),
    ('"mainstem"."events_snapshots"', 'position', 'bigint', true, false),
    ('"mainstem"."events_snapshots"', 'id', 'uuid', true, false),
    ('"mainstem"."events_snapshots"', 'state', 'json', true, false),
    ('"mainstem"."events_snapshots"', 'saved_at', 'timestamp with time zone', true, false),
    ('"mainstem"."events_consumers"', 'consumer', 'text', true, true),
    ('"mainstem"."events_consumers"', 'partitions', 'integer', true, false),
    ('"mainstem"."events_consumers"', 'is_paused', 'boolean', true, false),
    ('"mainstem"."events_members"', 'consumer', 'text', true, true),
    ('"mainstem"."events_members"', 'member', 'uuid', true, false),
    ('"mainstem"."events_members"', 'alive_until', 'timestamp with time zone', true, false),
    ('"mainstem"."events_progress"', 'consumer', 'text', true, true),
    ('"mainstem"."events_progress"', 'partition', 'integer', true, false),
    ('"mainstem"."events_progress"', 'position', 'bigint', true, false),
    ('"mainstem"."events_progress"', 'id', 'uuid', false, false),
    ('"mainstem"."events_progress"', 'past', 'json', true, false),
    ('"mainstem"."events_progress"', 'epoch', 'bigint', true, false),
    ('"mainstem"."events_progress"', 'member', 'uuid', false, false),
    ('"mainstem"."events_progress"', 'saved_at', 'timestamp with time zone', true, false),
    ('"mainstem"."events_skipped"', 'consumer', 'text', true, true),
    ('"mainstem"."events_skipped"', 'position', 'bigint', true, false),
    ('"mainstem"."events_skipped"', 'id', 'uuid', true, false),
    ('"mainstem"."events_skipped"', 'reason', 'text', true, false),
    ('"mainstem"."events_skipped"', 'attempts', 'bigint', true, false),
    ('"mainstem"."events_skipped"', 'skipped_at', 'timestamp with time zone', true, false)
), wanted_index (of, name, method, columns, is_unique, is_for, is_required) AS (VALUES
    ('"mainstem"."events"', '"mainstem"."events_pkey"', 'btree', '{position}', true, NULL, true),
    ('"mainstem"."events"', '"mainstem"."events_id"', 'btree', '{id}', true, NULL, true),
    ('"mainstem"."events"', '"mainstem"."events_type"', 'btree', '{type,position}', false, NULL, true),
    ('"mainstem"."events"', '"mainstem"."events_stream"', 'btree', '{stream,version}', true, 'stream IS NOT NULL', true),
    ('"mainstem"."events"', '"mainstem"."events_tags"', 'gin', '{tags}', false, 'tags <> ''{}''::text[]', true),
    ('"mainstem"."events"', '"mainstem"."events_payload"', 'gin', '{payload}', false, NULL, false),
    ('"mainstem"."events"', '"mainstem"."events_metadata"', 'gin', '{metadata}', false, NULL, false),
    ('"mainstem"."events_snapshots"', '"mainstem"."events_snapshots_key"', 'btree', '{projection,version,filter}', true, NULL,
     true),
    ('"mainstem"."events_consumers"', '"mainstem"."events_consumers_key"', 'btree', '{consumer}', true, NULL, true),
    ('"mainstem"."events_members"', '"mainstem"."events_members_key"', 'btree', '{consumer,member}', true, NULL, true),
    ('"mainstem"."events_progress"', '"mainstem"."events_progress_key"', 'btree', '{consumer,partition}', true, NULL, true),
    ('"mainstem"."events_skipped"', '"mainstem"."events_skipped_key"', 'btree', '{consumer,position,id}', true, NULL, true)
), there (of, oid, relkind, relpersistence, relrowsecurity, relnamespace) AS (
    SELECT w.of, c.oid, c.relkind, c.relpersistence, c.relrowsecurity, c.relnamespace
    FROM (SELECT DISTINCT of FROM wanted_column) AS w
    LEFT JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(w.of)
), fault (rank, what) AS (
    SELECT 1, CASE WHEN t.oid IS NULL THEN format('there is no table %s', t.of)
                   WHEN t.relkind <> 'r' THEN format('%s is no ordinary table', t.of)
                   WHEN t.relpersistence <> 'p' THEN
                       format('the table %s is not logged: replicas do not have it, and a crash empties it', t.of)
                   WHEN t.relrowsecurity THEN
                       format('the table %s has row-level security: what it hides, no condition can see', t.of)
              END
    FROM there t

    UNION ALL
    SELECT 2, CASE WHEN a.attname IS NULL THEN format('the column %I of %s is missing', w.name, w.of)
                   -- With quote_all_identifiers names come in quotation marks.
                   WHEN replace(format_type(a.atttypid, a.atttypmod), '"', '') <> w.type THEN
                       format('the column %I of %s is of the type %s, not %s', w.name, w.of,
                              format_type(a.atttypid, a.atttypmod), w.type)
                   WHEN w.is_c AND a.attcollation <> 'pg_catalog."C"'::regcollation THEN
                       format('the column %I of %s compares by the collation %s, not "C"', w.name, w.of,
                              a.attcollation::regcollation)
                   WHEN w.is_required <> a.attnotnull THEN
                       format('the column %I of %s %s be null', w.name, w.of,
                              CASE WHEN w.is_required THEN 'may' ELSE 'may not' END)
              END
    FROM wanted_column w
    JOIN there t ON t.of = w.of AND t.oid IS NOT NULL
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attname = w.name AND NOT a.attisdropped

    UNION ALL
    SELECT 3, format('the column %I of %s is not ours, and without a default it refuses every row of ours', a.attname, t.of)
    FROM there t
    JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''
      AND NOT EXISTS (SELECT FROM wanted_column w WHERE w.of = t.of AND w.name = a.attname)

    UNION ALL
    SELECT 4, CASE WHEN i.indexrelid IS NULL THEN
                       CASE WHEN w.is_required THEN format('the index %s is missing', w.name) END
                   WHEN i.indrelid <> t.oid THEN format('the index %s is not one of %s', w.name, w.of)
                   WHEN NOT i.indisvalid THEN
                       format('the index %s is of no use: the rest of a build that was interrupted', w.name)
                   WHEN m.amname <> w.method OR i.indisunique <> w.is_unique
                        OR w.columns::name[] <> ARRAY(SELECT a.attname
                                                      FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n)
                                                      JOIN pg_catalog.pg_attribute a
                                                          ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                                                      WHERE k.n <= i.indnkeyatts ORDER BY k.n)
                        OR replace(pg_get_expr(i.indpred, i.indrelid, true), '"', '') IS DISTINCT FROM w.is_for THEN
                       format('the index %s is %s', w.name, pg_get_indexdef(i.indexrelid))
                   -- In kB; the server's default is 4096, which each search would have to read.
                   WHEN w.method = 'gin' AND NOT coalesce('fastupdate=off' = ANY (c.reloptions), false)
                        AND coalesce((SELECT max(split_part(o.option, '=', 2)::int4) FROM unnest(c.reloptions) AS o(option)
                                      WHERE o.option LIKE 'gin_pending_list_limit=%'), 4096) > 2048 THEN
                       format('the list of new entries of the index %s may become long: '
                              'ALTER INDEX %s SET (gin_pending_list_limit = 2048)', w.name, w.name)
              END
    FROM wanted_index w
    JOIN there t ON t.of = w.of AND t.oid IS NOT NULL
    LEFT JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(w.name)
    LEFT JOIN pg_catalog.pg_am m ON m.oid = c.relam
    LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid

    UNION ALL
    SELECT 5, format('the index of the hot key %s, %s, %s', k.key, k.name,
                     CASE WHEN i.indexrelid IS NULL THEN 'is missing'
                          WHEN i.indexprs IS NULL THEN 'is one of something else'
                          ELSE 'is of no use: the rest of a build that was interrupted' END)
    FROM unnest($4::text[], $5::text[]) AS k(name, key)
    JOIN there t ON t.of = '"mainstem"."events"' AND t.oid IS NOT NULL
    LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = pg_catalog.to_regclass(k.name) AND i.indrelid = t.oid
    WHERE i.indisvalid IS NOT TRUE OR i.indexprs IS NULL

    UNION ALL
    SELECT 6, CASE WHEN c.conname IS NULL THEN format('the constraint %I of %s is missing', w.name, t.of)
                   WHEN NOT c.convalidated THEN
                       format('the constraint %I of %s has not been validated', w.name, t.of) END
    FROM (VALUES ('_payload_kind'), ('_stream_place')) AS s(suffix)
    JOIN there t ON t.of = '"mainstem"."events"' AND t.oid IS NOT NULL
    CROSS JOIN LATERAL (SELECT parse_ident(t.of) AS parts) AS p
    CROSS JOIN LATERAL (SELECT p.parts[2] || s.suffix AS name) AS w
    LEFT JOIN pg_catalog.pg_constraint c ON c.conrelid = t.oid AND c.conname = w.name AND c.contype = 'c'

    UNION ALL
    SELECT 7, CASE WHEN p.oid IS NULL THEN
                       format('the procedure %I is missing%s', $2::text,
                              ', and there is ' || (SELECT string_agg(quote_ident(o.proname), ', ' ORDER BY o.proname)
                                                FROM pg_catalog.pg_proc o
                                                WHERE o.pronamespace = t.relnamespace AND starts_with(o.proname, $3))
                              || ': the log is of another version')
                   WHEN p.prokind <> 'p' OR p.proconfig IS NOT NULL
                        OR replace(p.prosrc, E'\r', '') <> replace($1::text, E'\r', '') THEN
                       format('the procedure %I is not as this version has it', $2::text)
              END
    FROM there t
    LEFT JOIN pg_catalog.pg_proc p ON p.pronamespace = t.relnamespace AND p.proname = $2
    WHERE t.of = '"mainstem"."events"' AND t.oid IS NOT NULL

    UNION ALL
    SELECT 8, format('nothing merges the new entries of indexes: there is no function %I', w.name)
    FROM there t
    CROSS JOIN LATERAL (SELECT (parse_ident(t.of))[2] || '_merge_pending' AS name) AS w
    WHERE t.of = '"mainstem"."events"' AND t.oid IS NOT NULL
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc p
                      WHERE p.pronamespace = t.relnamespace AND p.proname = w.name AND p.pronargs = 0)

    UNION ALL
    SELECT 9, CASE WHEN g.oid IS NULL THEN
                       format('nothing refuses changes of %s: there is no trigger %I', t.of, w.name)
                   WHEN g.tgenabled <> 'A' THEN
                       format('the trigger %I of %s is not enabled always', w.name, t.of)
                   -- Before UPDATE, DELETE and TRUNCATE, for each statement, whatever it does.
                   WHEN (g.tgtype & 59) <> 58 OR g.tgqual IS NOT NULL OR g.tgattr <> ''
                        OR f.proname <> p.parts[2] || '_refuse_change' THEN
                       format('the trigger %I of %s is %s', w.name, t.of, pg_get_triggerdef(g.oid))
              END
    FROM there t
    CROSS JOIN LATERAL (SELECT parse_ident(t.of) AS parts) AS p
    CROSS JOIN LATERAL (SELECT p.parts[2] || '_append_only' AS name) AS w
    LEFT JOIN pg_catalog.pg_trigger g ON g.tgrelid = t.oid AND g.tgname = w.name
    LEFT JOIN pg_catalog.pg_proc f ON f.oid = g.tgfoid
    WHERE t.of = '"mainstem"."events"' AND t.oid IS NOT NULL
)
SELECT what FROM fault WHERE what IS NOT NULL ORDER BY rank, what
