-- What is not as it must be: a row for each fault, none when all is well. Only catalogs are read, which everybody may.
-- Functions and operators of another schema in the caller's path are preferred where ours do not match exactly, and would be
-- called with the caller's rights. So functions are qualified, and operators compare what they are there for.
--
-- $1 is the text of the append procedure, $2 its name and $3 what that of any version of it begins with; $4 and $5 are the
-- indexes of the declared hot keys and what these are; $6 and $7 are the texts of the functions that refuse changes and merge. Indexes that are there by choice are only looked at if they are there.
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
    ('"mainstem"."events_consumers"', 'filter', 'bytea', false, false),
    ('"mainstem"."events_consumers"', 'version', 'bigint', false, false),
    ('"mainstem"."events_members"', 'consumer', 'text', true, true),
    ('"mainstem"."events_members"', 'member', 'uuid', true, false),
    ('"mainstem"."events_members"', 'alive_until', 'timestamp with time zone', true, false),
    ('"mainstem"."events_members"', 'lease', 'interval', true, false),
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
    LEFT JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(w.of)::oid
), fault (rank, what) AS (
    SELECT 1, CASE WHEN t.oid IS NULL THEN pg_catalog.format('there is no table %s', t.of)
                   WHEN t.relkind <> 'r' THEN pg_catalog.format('%s is no ordinary table', t.of)
                   WHEN t.relpersistence <> 'p' THEN
                       pg_catalog.format('the table %s is not logged: replicas do not have it, and a crash empties it', t.of)
                   WHEN t.relrowsecurity THEN
                       pg_catalog.format('the table %s has row-level security: what it hides, no condition can see', t.of)
              END
    FROM there t

    UNION ALL
    SELECT 2, CASE WHEN a.attname IS NULL THEN pg_catalog.format('the column %I of %s is missing', w.name, w.of)
                   -- With quote_all_identifiers names come in quotation marks.
                   WHEN pg_catalog.replace(pg_catalog.format_type(a.atttypid, a.atttypmod), '"', '') <> w.type THEN
                       pg_catalog.format('the column %I of %s is of the type %s, not %s', w.name, w.of,
                              pg_catalog.format_type(a.atttypid, a.atttypmod), w.type)
                   WHEN w.is_c AND a.attcollation <> 'pg_catalog."C"'::regcollation::oid THEN
                       pg_catalog.format('the column %I of %s compares by the collation %s, not "C"', w.name, w.of,
                              a.attcollation::regcollation)
                   WHEN w.is_required <> a.attnotnull THEN
                       pg_catalog.format('the column %I of %s %s be null', w.name, w.of,
                              CASE WHEN w.is_required THEN 'may' ELSE 'may not' END)
              END
    FROM wanted_column w
    JOIN there t ON t.of = w.of AND t.oid IS NOT NULL
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attname = w.name AND NOT a.attisdropped

    UNION ALL
    SELECT 3, pg_catalog.format('the column %I of %s is not ours, and without a default it refuses every row of ours', a.attname, t.of)
    FROM there t
    JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''
      AND NOT EXISTS (SELECT FROM wanted_column w WHERE w.of = t.of AND w.name = a.attname)

    UNION ALL
    SELECT 4, CASE WHEN i.indexrelid IS NULL THEN
                       CASE WHEN w.is_required THEN pg_catalog.format('the index %s is missing', w.name) END
                   WHEN i.indrelid <> t.oid THEN pg_catalog.format('the index %s is not one of %s', w.name, w.of)
                   WHEN NOT i.indisvalid THEN
                       pg_catalog.format('the index %s is of no use: the rest of a build that was interrupted', w.name)
                   WHEN m.amname <> w.method OR i.indisunique <> w.is_unique OR i.indisunique AND NOT i.indimmediate
                        OR w.columns::name[] OPERATOR(pg_catalog.<>) ARRAY(SELECT a.attname
                                                      FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n)
                                                      JOIN pg_catalog.pg_attribute a
                                                          ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                                                      WHERE k.n <= i.indnkeyatts ORDER BY k.n)
                        -- Qualified where another schema in the path has an operator that might be meant.
                        OR pg_catalog.replace(pg_catalog.replace(pg_catalog.pg_get_expr(i.indpred, i.indrelid, true), '"', ''),
                                              'OPERATOR(pg_catalog.<>)', '<>') IS DISTINCT FROM w.is_for THEN
                       pg_catalog.format('the index %s is %s', w.name, pg_catalog.pg_get_indexdef(i.indexrelid))
                   -- In kB; the server's default is 4096, which each search would have to read.
                   WHEN w.method = 'gin' AND NOT coalesce('fastupdate=off' = ANY (c.reloptions), false)
                        AND coalesce((SELECT max(pg_catalog.split_part(o.option, '=', 2)::int4) FROM pg_catalog.unnest(c.reloptions) AS o(option)
                                      WHERE o.option LIKE 'gin_pending_list_limit=%'), 4096) > 2048 THEN
                       pg_catalog.format('the list of new entries of the index %s may become long: '
                              'ALTER INDEX %s SET (gin_pending_list_limit = 2048)', w.name, w.name)
              END
    FROM wanted_index w
    JOIN there t ON t.of = w.of AND t.oid IS NOT NULL
    LEFT JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(w.name)::oid
    LEFT JOIN pg_catalog.pg_am m ON m.oid = c.relam
    LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid

    UNION ALL
    SELECT 5, pg_catalog.format('the index of the hot key %s, %s, %s', k.key, k.name,
                     CASE WHEN i.indexrelid IS NULL THEN 'is missing'
                          WHEN i.indexprs IS NULL THEN 'is one of something else'
                          ELSE 'is of no use: the rest of a build that was interrupted' END)
    FROM unnest($4::text[], $5::text[]) AS k(name, key)
    JOIN there t ON t.of = '"mainstem"."events"' AND t.oid IS NOT NULL
    LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = pg_catalog.to_regclass(k.name)::oid AND i.indrelid = t.oid
    WHERE i.indisvalid IS NOT TRUE OR i.indexprs IS NULL

    UNION ALL
    SELECT 6, CASE WHEN c.conname IS NULL THEN pg_catalog.format('the constraint %I of %s is missing', w.name, t.of)
                   WHEN NOT c.convalidated THEN
                       pg_catalog.format('the constraint %I of %s has not been validated', w.name, t.of) END
    FROM (VALUES ('_payload_kind'), ('_stream_place')) AS s(suffix)
    JOIN there t ON t.of = '"mainstem"."events"' AND t.oid IS NOT NULL
    CROSS JOIN LATERAL (SELECT pg_catalog.parse_ident(t.of) AS parts) AS p
    CROSS JOIN LATERAL (SELECT p.parts[2] || s.suffix AS name) AS w
    LEFT JOIN pg_catalog.pg_constraint c ON c.conrelid = t.oid AND c.conname = w.name AND c.contype = 'c'

    UNION ALL
    SELECT 7, CASE WHEN p.oid IS NULL THEN
                       pg_catalog.format('the procedure %I is missing%s', $2::text,
                              ', and there is ' || (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(o.proname), ', ' ORDER BY o.proname)
                                                FROM pg_catalog.pg_proc o
                                                WHERE o.pronamespace = t.relnamespace AND pg_catalog.starts_with(o.proname, $3))
                              || ': the log is of another version')
                   WHEN p.prokind <> 'p' OR p.prosecdef OR p.proconfig IS NOT NULL
                        OR pg_catalog.replace(p.prosrc, E'\r', '') <> pg_catalog.replace($1::text, E'\r', '') THEN
                       pg_catalog.format('the procedure %I is not as this version has it', $2::text)
              END
    FROM there t
    LEFT JOIN pg_catalog.pg_proc p ON p.pronamespace = t.relnamespace AND p.proname = $2
    WHERE t.of = '"mainstem"."events"' AND t.oid IS NOT NULL

    UNION ALL
    SELECT 8, CASE WHEN m.oid IS NULL THEN
                       pg_catalog.format('nothing merges the new entries of indexes: there is no function %I', w.name)
                   WHEN NOT m.prosecdef OR pg_catalog.replace(m.prosrc, E'\r', '') <> pg_catalog.replace($7::text, E'\r', '') THEN
                       pg_catalog.format('the function %I is not as this version has it', w.name)
              END
    FROM there t
    CROSS JOIN LATERAL (SELECT (pg_catalog.parse_ident(t.of))[2] || '_merge_pending' AS name) AS w
    LEFT JOIN pg_catalog.pg_proc m ON m.pronamespace = t.relnamespace AND m.proname = w.name AND m.pronargs = 0
    WHERE t.of = '"mainstem"."events"' AND t.oid IS NOT NULL

    UNION ALL
    SELECT 9, CASE WHEN g.oid IS NULL THEN
                       pg_catalog.format('nothing refuses changes of %s: there is no trigger %I', t.of, w.name)
                   WHEN g.tgenabled <> 'A' THEN
                       pg_catalog.format('the trigger %I of %s is not enabled always', w.name, t.of)
                   -- Before UPDATE, DELETE and TRUNCATE, for each statement, whatever it does.
                   WHEN (g.tgtype::int4 & 59) <> 58 OR g.tgqual IS NOT NULL OR g.tgattr::text <> ''
                        OR f.pronamespace <> t.relnamespace OR f.proname <> p.parts[2] || '_refuse_change' THEN
                       pg_catalog.format('the trigger %I of %s is %s', w.name, t.of, pg_catalog.pg_get_triggerdef(g.oid))
                   WHEN pg_catalog.replace(f.prosrc, E'\r', '') <> pg_catalog.replace($6::text, E'\r', '') THEN
                       pg_catalog.format('the function %I is not as this version has it: it may let changes through', f.proname)
              END
    FROM there t
    CROSS JOIN LATERAL (SELECT pg_catalog.parse_ident(t.of) AS parts) AS p
    CROSS JOIN LATERAL (SELECT p.parts[2] || '_append_only' AS name) AS w
    LEFT JOIN pg_catalog.pg_trigger g ON g.tgrelid = t.oid AND g.tgname = w.name
    LEFT JOIN pg_catalog.pg_proc f ON f.oid = g.tgfoid
    WHERE t.of = '"mainstem"."events"' AND t.oid IS NOT NULL

    UNION ALL
    SELECT 10, pg_catalog.format('gin_fuzzy_search_limit is %s for this role: the server leaves out of long results what it likes, and '
                                 'reads and conditions miss events: ALTER ROLE %I SET gin_fuzzy_search_limit = 0',
                                 s.value, current_user)
    FROM (SELECT pg_catalog.current_setting('gin_fuzzy_search_limit') AS value) AS s
    WHERE s.value <> '0'
)
SELECT what FROM fault WHERE what IS NOT NULL ORDER BY rank, what
