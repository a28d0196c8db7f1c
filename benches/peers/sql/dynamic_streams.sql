-- Its columns and its four indexes, as they are by default (gin with fastupdate).
CREATE TABLE events (
    sequence_number bigserial   PRIMARY KEY,
    occurred_at     timestamptz NOT NULL,
    event_type      text        NOT NULL,
    payload         jsonb       NOT NULL,
    metadata        jsonb       DEFAULT '{}'
);
CREATE INDEX events_event_type ON events (event_type);
CREATE INDEX events_occurred_at ON events (occurred_at);
CREATE INDEX events_payload ON events USING gin (payload jsonb_path_ops);
CREATE INDEX events_metadata ON events USING gin (metadata jsonb_path_ops);
