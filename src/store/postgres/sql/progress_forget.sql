-- The records of what the consumer ($1) has skipped after a position ($2). In a statement after the reset, which waits for
-- commits under way: they may have recorded more.
DELETE FROM "mainstem"."events_skipped" WHERE consumer = $1 AND position > $2
