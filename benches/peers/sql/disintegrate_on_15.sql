-- What version 4.0.1 of disintegrate-postgres does not get to make on PostgreSQL 15: the function with a number that is written
-- in decimal here, and the column of the boundaries with its index.
CREATE OR REPLACE FUNCTION event_store_begin_epoch() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    id bigint := (SELECT last_value FROM seq_event_event_id);
    database int := (SELECT oid FROM pg_database WHERE datname = current_database());
BEGIN
    PERFORM pg_try_advisory_xact_lock_shared(database, 0);
    PERFORM pg_try_advisory_xact_lock_shared(1, (id & 4294967295)::bit(32)::integer);
    PERFORM pg_try_advisory_xact_lock_shared(2, (id >> 32)::bit(32)::integer);
END;
$$;
ALTER TABLE event ADD COLUMN IF NOT EXISTS book_id text;
CREATE INDEX IF NOT EXISTS idx_event_book_id ON event (book_id) WHERE book_id IS NOT NULL;
