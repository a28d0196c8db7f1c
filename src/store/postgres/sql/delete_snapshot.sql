DELETE FROM "mainstem"."events_snapshots" WHERE projection = $1 AND version = $2 AND filter = $3
