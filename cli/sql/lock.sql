-- The log's lock, as the append procedure takes it: whoever has it writes alone.
SELECT pg_advisory_xact_lock(1296651085, (('"mainstem"."events"'::regclass)::oid::bigint - 2147483648)::int4)
