-- What each index that is there by choice costs: bytes on disk and in the WAL, for each event of about 300 bytes with eight
-- members in its payload and three in its metadata. Where the figures in the documentation of `LogIndex` come from.
--
--   psql -X -q -f migrations/V1__log.sql -f docs/index_cost.sql
--
-- Run it in an empty database that nobody else's server writes to. The figures are counts, and don't depend on the machine.
\set ON_ERROR_STOP on
\pset footer off
SET jit = off;

-- One append is one transaction, as the slowest of appends are.
CREATE PROCEDURE append_some(amount int4) LANGUAGE plpgsql AS $body$
DECLARE
    head bigint := (SELECT coalesce(max(position), 0) FROM "mainstem"."events");
BEGIN
    FOR n IN head + 1 .. head + amount LOOP
        INSERT INTO "mainstem"."events" (position, following, id, type, tags, metadata, payload, occurred_at, recorded_at)
            VALUES (n, 0, gen_random_uuid(), 'CopyLent', '{copy:1}',
                    jsonb_build_object('tenant', n % 50, 'CorrelationID', gen_random_uuid(), 'user', 'user-' || n % 1000),
                    jsonb_build_object('CopyID', gen_random_uuid(), 'ReaderID', 'reader-' || n % 5000, 'branch', n % 20,
                                       'days', n % 30, 'renewed', n % 2 = 0, 'title', 'A title of some length ' || n % 9000,
                                       'note', repeat('x', 60), 'at', n),
                    now(), now());
        COMMIT;
    END LOOP;
END
$body$;

CREATE TABLE cost (index text, disk int8, wal int8);

-- The WAL of 10000 appends to a log of 40000, without the images of pages that the first change behind a checkpoint writes.
CREATE PROCEDURE measure(name text, relation text) LANGUAGE plpgsql AS $body$
DECLARE
    start pg_lsn;
BEGIN
    start := pg_current_wal_insert_lsn();
    CALL append_some(10000);
    PERFORM "mainstem"."events_merge_pending"();
    INSERT INTO cost SELECT name, pg_relation_size(to_regclass(relation)) / (SELECT count(*) FROM "mainstem"."events"),
                            pg_wal_lsn_diff(pg_current_wal_insert_lsn(), start)::int8 / 10000;
    COMMIT;
END
$body$;

-- (The setting is the server's, and ours to reset.)
ALTER SYSTEM SET full_page_writes = off;
SELECT pg_reload_conf() \g /dev/null
CALL append_some(40000);
SELECT "mainstem"."events_merge_pending"() \g /dev/null
DROP INDEX "mainstem"."events_payload";
CALL measure('none of them', NULL);
CREATE INDEX "events_payload" ON "mainstem"."events" USING gin (payload jsonb_path_ops) WITH (gin_pending_list_limit = 2048);
CALL measure('payload', 'mainstem.events_payload');
DROP INDEX "mainstem"."events_payload";
CREATE INDEX "events_metadata" ON "mainstem"."events" USING gin (metadata jsonb_path_ops) WITH (gin_pending_list_limit = 2048);
CALL measure('metadata', 'mainstem.events_metadata');
DROP INDEX "mainstem"."events_metadata";
CREATE INDEX "events_key" ON "mainstem"."events" (pg_catalog.jsonb_hash_extended(metadata -> 'tenant'::text, 0), position)
    WHERE pg_catalog.jsonb_hash_extended(metadata -> 'tenant'::text, 0) IS NOT NULL;
CALL measure('key', 'mainstem.events_key');
ALTER SYSTEM RESET full_page_writes;
SELECT pg_reload_conf() \g /dev/null

SELECT (SELECT round(avg(pg_column_size(payload))) FROM "mainstem"."events") AS payload,
       (SELECT round(avg(pg_column_size(metadata))) FROM "mainstem"."events") AS metadata;
SELECT index, disk AS "bytes on disk", wal - first_value(wal) OVER (ORDER BY ctid) AS "more bytes of WAL"
FROM cost ORDER BY ctid;
