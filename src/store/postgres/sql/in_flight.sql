-- Waits for the append that holds the log's lock, and takes it for the length of this statement.
SELECT pg_catalog.pg_advisory_xact_lock(1296651085, (('"mainstem"."events"'::regclass)::oid::bigint - 2147483648)::int4)
