-- The member ($2) gives up what it has beyond so many partitions ($3), locked in the order in which a save locks them.
WITH beyond AS MATERIALIZED (
    SELECT o.partition FROM "mainstem"."events_progress" o WHERE o.consumer = $1 AND o.member = $2
    ORDER BY o.partition OFFSET $3
), mine AS (
    SELECT o.partition FROM "mainstem"."events_progress" o JOIN beyond ON beyond.partition = o.partition
    WHERE o.consumer = $1 AND o.member = $2 ORDER BY o.partition FOR UPDATE OF o
)
UPDATE "mainstem"."events_progress" AS p SET member = NULL
FROM mine WHERE p.consumer = $1 AND p.partition = mine.partition
