-- The checkpoints of the consumer ($1): it waits for commits under way, and locks them in the order in which those do.
WITH all_of_it AS (
    SELECT o.partition FROM "mainstem"."events_progress" o WHERE o.consumer = $1 ORDER BY o.partition FOR UPDATE
)
DELETE FROM "mainstem"."events_progress" AS p USING all_of_it
WHERE p.consumer = $1 AND p.partition = all_of_it.partition
