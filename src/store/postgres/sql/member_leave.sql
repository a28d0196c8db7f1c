-- The member ($2) of the consumer ($1) leaves. Its partitions are locked in the order in which a save locks them.
WITH me AS (
    DELETE FROM "mainstem"."events_members" WHERE consumer = $1 AND member = $2
), mine AS (
    SELECT o.partition FROM "mainstem"."events_progress" o
    WHERE o.consumer = $1 AND o.member = $2 ORDER BY o.partition FOR UPDATE
)
UPDATE "mainstem"."events_progress" AS p SET member = NULL
FROM mine WHERE p.consumer = $1 AND p.partition = mine.partition AND p.member = $2
