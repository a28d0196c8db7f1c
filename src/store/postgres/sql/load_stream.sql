-- The stream's last event comes first, in the snapshot that the events are read in: a row with its version, without a type. Each
-- part walks the index of streams from one end.
WITH last AS MATERIALIZED (
    SELECT position, id, version FROM "mainstem"."events" WHERE stream = $1 ORDER BY version DESC LIMIT 1
)
SELECT position, id, NULL::text, NULL::text[], NULL::jsonb, NULL::jsonb, NULL::timestamptz, NULL::timestamptz,
       NULL::text, NULL::bytea, NULL::text, version
FROM last
UNION ALL (
SELECT e.position, e.id, e.type, e.tags, e.payload, e.metadata, e.occurred_at, e.recorded_at,
       e.content_type, e.bytes, e.stream, e.version
FROM "mainstem"."events" e
WHERE e.stream = $1 AND e.version > $2 AND e.version < $3 ORDER BY e.version/* order */ LIMIT $4
)
