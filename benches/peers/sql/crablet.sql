-- Its columns and its three indexes, and what its two functions do: the condition is one item of types and tags, of which
-- events of transactions that are not older than any running one are not seen.
CREATE TABLE events (
    type           varchar(64) NOT NULL CHECK (length(type) <= 64),
    tags           text[]      NOT NULL,
    data           json        NOT NULL,
    transaction_id xid8        NOT NULL,
    position       bigserial   PRIMARY KEY,
    occurred_at    timestamptz NOT NULL DEFAULT current_timestamp
);
CREATE INDEX events_transaction_position ON events (transaction_id, position);
CREATE INDEX events_tags ON events USING gin (tags);
CREATE INDEX events_type ON events (type);

CREATE FUNCTION append_events_batch(types text[], tag_literals text[], documents jsonb[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO events (type, tags, data, transaction_id)
        SELECT new.type, new.tags::text[], new.data, pg_current_xact_id()
        FROM unnest(types, tag_literals, documents) AS new (type, tags, data);
END;
$$;

CREATE FUNCTION append_events_if(
    types text[], tag_literals text[], documents jsonb[],
    condition_types text[], condition_tags text[], after_transaction xid8, after_position bigint
) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    matching integer;
BEGIN
    IF condition_types IS NOT NULL OR condition_tags IS NOT NULL THEN
        SELECT count(*) INTO matching FROM events e
        WHERE (condition_types IS NULL OR e.type = ANY (condition_types))
            AND (condition_tags IS NULL OR e.tags @> condition_tags)
            AND (after_transaction IS NULL OR e.transaction_id > after_transaction
                OR (e.transaction_id = after_transaction AND e.position > after_position))
            AND e.transaction_id < pg_snapshot_xmin(pg_current_snapshot());
        IF matching > 0 THEN
            RETURN jsonb_build_object('success', false, 'error_code', 'DCB01', 'matching_events_count', matching);
        END IF;
    END IF;
    PERFORM append_events_batch(types, tag_literals, documents);
    RETURN jsonb_build_object('success', true, 'events_count', array_length(types, 1));
END;
$$;
