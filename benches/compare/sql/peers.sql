-- The tables beside the log, with the log's own events.
--
-- plain: the same columns, defaults, constraints and indexes, with positions from a sequence, so that an INSERT is all
-- that it takes. No trigger, since none of the log's fires for an INSERT.
CREATE SCHEMA plain;
CREATE TABLE plain.events (LIKE "mainstem"."events" INCLUDING ALL);
CREATE SEQUENCE plain.events_position OWNED BY plain.events.position;
ALTER TABLE plain.events ALTER position SET DEFAULT nextval('plain.events_position');

-- origin: its columns and its four indexes, as they are by default (gin with fastupdate).
CREATE SCHEMA origin;
CREATE TABLE origin.events (
    sequence_number bigserial   PRIMARY KEY,
    occurred_at     timestamptz NOT NULL,
    event_type      text        NOT NULL,
    payload         jsonb       NOT NULL,
    metadata        jsonb       DEFAULT '{}'
);
CREATE INDEX events_event_type ON origin.events (event_type);
CREATE INDEX events_occurred_at ON origin.events (occurred_at);
CREATE INDEX events_payload ON origin.events USING gin (payload jsonb_path_ops);
CREATE INDEX events_metadata ON origin.events USING gin (metadata jsonb_path_ops);
