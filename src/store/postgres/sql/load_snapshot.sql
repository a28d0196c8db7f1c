-- The snapshot, whether the log holds its event, and the log's head, all of one moment.
SELECT s.position, s.id, held.held, CASE WHEN held.held THEN s.state::text END, s.saved_at,
       (SELECT e.position FROM "mainstem"."events" e ORDER BY e.position DESC LIMIT 1)
FROM "mainstem"."events_snapshots" s
CROSS JOIN LATERAL (
    SELECT EXISTS (SELECT FROM "mainstem"."events" e WHERE e.position = s.position AND e.id = s.id) AS held
) AS held
WHERE s.projection = $1 AND s.version = $2 AND s.filter = $3
