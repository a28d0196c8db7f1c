-- The next events, whole.
SELECT position, following, id, type, tags, payload::text, metadata::text, bytes, content_type, stream, version,
       occurred_at, recorded_at
FROM "mainstem"."events" WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3
