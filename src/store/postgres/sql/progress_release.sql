-- The member ($2) gives up what it has beyond so many partitions ($3).
UPDATE "mainstem"."events_progress" AS p SET member = NULL
FROM (
    SELECT o.partition FROM "mainstem"."events_progress" o WHERE o.consumer = $1 AND o.member = $2
    ORDER BY o.partition OFFSET $3
) AS beyond
WHERE p.consumer = $1 AND p.partition = beyond.partition
