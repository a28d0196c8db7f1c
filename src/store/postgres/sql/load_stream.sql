-- The stream's version comes with every row: it is read in the snapshot that the events are read in, also if there are none.
-- Each part walks the index of streams from one end.
SELECT last.version,
       e.position, e.id, e.type, e.tags, e.payload, e.metadata, e.occurred_at, e.recorded_at,
       e.content_type, e.bytes, e.stream, e.version
FROM (
    SELECT version FROM "mainstem"."events" WHERE stream = $1 ORDER BY version DESC LIMIT 1
) AS last LEFT JOIN (
    SELECT * FROM "mainstem"."events"
    WHERE stream = $1 AND version > $2 AND version < $3 ORDER BY version/* order */ LIMIT $4
) AS e ON true
ORDER BY e.version/* order */
