-- The log's head comes with every row: it is read in the snapshot that the events are read in, also if there are none.
WITH head AS MATERIALIZED (
    SELECT position, id FROM "mainstem"."events" ORDER BY position DESC LIMIT 1
)
SELECT head.position, head.id,
       e.position, e.id, e.type, e.tags, e.payload, e.metadata, e.occurred_at, e.recorded_at,
       e.content_type, e.bytes, e.stream, e.version
FROM head LEFT JOIN "mainstem"."events" e ON /* filter */
ORDER BY e.position
