UPDATE "mainstem"."events_consumers" SET is_paused = $2 WHERE consumer = $1
