-- What has come after the event ($1, $2), and whether that is in the log, of one moment; the head is as in query.sql.
WITH head AS MATERIALIZED (
    SELECT position, id FROM "mainstem"."events" ORDER BY position DESC LIMIT 1
)
SELECT position, id, NULL::text, NULL::text[], NULL::jsonb, NULL::jsonb, NULL::timestamptz, NULL::timestamptz,
       NULL::text, NULL::bytea, NULL::text, NULL::bigint,
       EXISTS (SELECT FROM "mainstem"."events" e WHERE e.position = $1 AND e.id = $2)
FROM head
UNION ALL (
SELECT e.position, e.id, e.type, e.tags, e.payload, e.metadata, e.occurred_at, e.recorded_at,
       e.content_type, e.bytes, e.stream, e.version, NULL
FROM "mainstem"."events" e WHERE e.position > $1 AND /* filter */
ORDER BY e.position
)
