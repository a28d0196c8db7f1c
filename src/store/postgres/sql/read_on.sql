-- What has come behind the event ($1, $2), and whether that is in the log, of one moment; the head is as in query.sql.
WITH head AS MATERIALIZED (
    SELECT position, id FROM "mainstem"."events" ORDER BY position DESC LIMIT 1
), held AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM "mainstem"."events" e WHERE e.position = $1 AND e.id = $2) AS held
)
SELECT head.position, head.id, held.held,
       e.position, e.id, e.type, e.tags, e.payload, e.metadata, e.occurred_at, e.recorded_at,
       e.content_type, e.bytes, e.stream, e.version
FROM head CROSS JOIN held LEFT JOIN "mainstem"."events" e ON e.position > $1 AND /* filter */
ORDER BY e.position
