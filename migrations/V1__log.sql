-- The log: one table, one total order.
--
-- The names are the defaults: the schema "mainstem" and the log "events". The library puts in others, quoted, by
-- replacing exactly the texts "mainstem" and "events at the start of a quoted identifier, and 'mainstem' as a literal.

DO $body$
BEGIN
    -- CREATE SCHEMA IF NOT EXISTS asks for the right to create one even if it is there.
    IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'mainstem') THEN
        CREATE SCHEMA "mainstem";
    END IF;
END
$body$;

CREATE TABLE "mainstem"."events" (
    -- 1, 2, 3 … without a gap, in the order of commit. Should the log's lock ever fail, the primary key is the second fence.
    position    bigint      NOT NULL CONSTRAINT "events_pkey" PRIMARY KEY CHECK (position > 0),
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    -- How many events of the same append come after this one: it tells a repeated append from a part of one.
    following   int4        NOT NULL CHECK (following >= 0),
    -- Made by the client: it tells a repeated append from a new one, and one history from another.
    id          uuid        NOT NULL CONSTRAINT "events_id" UNIQUE,
    type        text        COLLATE "C" NOT NULL,
    tags        text[]      COLLATE "C" NOT NULL,
    metadata    jsonb       NOT NULL,
    -- What happened, as JSON,
    payload     jsonb,
    -- or as bytes that only the application reads, and what they are.
    bytes        bytea,
    content_type text       COLLATE "C",
    -- For those who also keep fixed streams: which one, and the event's place in it, 1, 2, 3 …
    stream      text        COLLATE "C",
    version     bigint      CHECK (version > 0),
    CONSTRAINT "events_payload_kind" CHECK ((payload IS NULL) = (bytes IS NOT NULL) AND (bytes IS NULL) = (content_type IS NULL)),
    CONSTRAINT "events_stream_place" CHECK ((stream IS NULL) = (version IS NULL))
);

CREATE INDEX "events_type" ON "mainstem"."events" (type, position);
CREATE UNIQUE INDEX "events_stream" ON "mainstem"."events" (stream, version) WHERE stream IS NOT NULL;

-- Every condition without an `after`, and every read of a boundary, looks here, so there is nothing else to look through:
-- an event has few tags, and their entries go into the index at once. An event without any would have one entry as well.
CREATE INDEX "events_tags" ON "mainstem"."events" USING gin (tags) WITH (fastupdate = off)
    WHERE tags OPERATOR(pg_catalog.<>) '{}';

-- An event has many entries in this one, in as many places. So they go into a list first, and are merged into the index
-- together, which is several times cheaper. Every search also reads the list: it is kept short by
-- "events_merge_pending", which the library calls, and whoever makes it longer than this merges it on the spot.
CREATE INDEX "events_payload" ON "mainstem"."events" USING gin (payload jsonb_path_ops)
    WITH (fastupdate = on, gin_pending_list_limit = 2048);

-- Merges what the lists hold, beside those who append, and returns the number of the lists' pages; NULL if somebody is at
-- it already. Only an index's owner may, and this does no harm: so it runs as its own owner, whoever calls.
CREATE FUNCTION "mainstem"."events_merge_pending"() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    -- As the log's lock, with a number of its own.
    IF NOT pg_try_advisory_xact_lock(1296651087, (('"mainstem"."events"'::regclass)::oid::bigint - 2147483648)::int4) THEN
        RETURN NULL;
    END IF;
    RETURN (
        SELECT coalesce(sum(gin_clean_pending_list(i.indexrelid)), 0)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
        WHERE i.indrelid = '"mainstem"."events"'::regclass AND a.amname = 'gin' AND i.indisvalid);
END
$body$;

-- Append-only, whoever asks.
CREATE FUNCTION "mainstem"."events_refuse_change"() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    RAISE EXCEPTION '% on %.% refused: the log is append-only', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END
$body$;

CREATE TRIGGER "events_append_only" BEFORE UPDATE OR DELETE OR TRUNCATE ON "mainstem"."events"
    FOR EACH STATEMENT EXECUTE FUNCTION "mainstem"."events_refuse_change"();

-- Also for sessions that replay other servers' changes (session_replication_role = replica).
ALTER TABLE "mainstem"."events" ENABLE ALWAYS TRIGGER "events_append_only";
