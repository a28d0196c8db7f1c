-- Waits for the append that holds the log's lock, so long at most, and takes it for the length of this statement.
SELECT pg_catalog.pg_advisory_xact_lock(1296651085, (('"mainstem"."events"'::regclass)::oid::bigint - 2147483648)::int4)
FROM pg_catalog.set_config('lock_timeout', $1, true)
