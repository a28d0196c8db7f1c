-- Its columns and its three indexes, the times made by the database.
CREATE TABLE "events" (
    id         serial       PRIMARY KEY,
    stream_id  varchar(255) NOT NULL,
    version    bigint       NOT NULL,
    event_id   varchar(255) NOT NULL,
    event_type varchar(255) NOT NULL,
    event_data bytea        NOT NULL,
    metadata   jsonb,
    timestamp  timestamptz  NOT NULL DEFAULT current_timestamp
);
CREATE INDEX events_stream_id ON "events" (stream_id);
CREATE UNIQUE INDEX events_stream_version ON "events" (stream_id, version);
CREATE INDEX events_timestamp ON "events" (timestamp);
