-- The checkpoints of the consumer ($1): it waits for commits under way.
DELETE FROM "mainstem"."events_progress" WHERE consumer = $1
