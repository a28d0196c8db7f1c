SELECT partition, epoch, position, id, past::text FROM "mainstem"."events_progress"
WHERE consumer = $1 AND member = $2 ORDER BY partition
