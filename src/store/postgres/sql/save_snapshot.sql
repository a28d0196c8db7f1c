-- Saves, if the log holds the event ($4, $5) and there is no snapshot of a higher position. One of another history (lost)
-- is replaced whatever its position. It is found in the snapshot of this statement, where a snapshot never comes without
-- its event; the row that is there by now may be a newer one, whose event this statement does not see, so it is not asked
-- again, only compared.
WITH mark AS MATERIALIZED (
    SELECT e.position, e.id FROM "mainstem"."events" e WHERE e.position = $4 AND e.id = $5
), lost AS MATERIALIZED (
    SELECT s.position, s.id FROM "mainstem"."events_snapshots" s
    WHERE s.projection = $1 AND s.version = $2 AND s.filter = $3
      AND NOT EXISTS (SELECT FROM "mainstem"."events" e WHERE e.position = s.position AND e.id = s.id)
), saved AS (
    INSERT INTO "mainstem"."events_snapshots" AS s (projection, version, filter, position, id, state, saved_at)
    SELECT $1, $2, $3, mark.position, mark.id, $6::text::json, clock_timestamp() FROM mark
    ON CONFLICT (projection, version, filter) DO UPDATE
        SET position = excluded.position, id = excluded.id, state = excluded.state, saved_at = excluded.saved_at
        WHERE s.position <= excluded.position
           OR EXISTS (SELECT FROM lost WHERE lost.position = s.position AND lost.id = s.id)
    RETURNING 1
)
SELECT EXISTS (SELECT FROM mark), EXISTS (SELECT FROM saved),
       (SELECT e.position FROM "mainstem"."events" e ORDER BY e.position DESC LIMIT 1)
