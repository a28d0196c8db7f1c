SELECT position, id, reason, attempts, skipped_at FROM "mainstem"."events_skipped" WHERE consumer = $1
ORDER BY position, id LIMIT $2
