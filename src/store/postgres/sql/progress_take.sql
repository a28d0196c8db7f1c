-- The member ($2) takes so many partitions ($3) that nobody has who lives. One whose row is locked is being saved: whoever does
-- that lives, whatever his time says.
WITH free AS (
    SELECT o.partition FROM "mainstem"."events_progress" o
    WHERE o.consumer = $1
      AND (o.member IS NULL
           OR NOT EXISTS (SELECT FROM "mainstem"."events_members" m WHERE m.consumer = o.consumer AND m.member = o.member))
    ORDER BY o.partition LIMIT $3
    FOR UPDATE OF o SKIP LOCKED
)
UPDATE "mainstem"."events_progress" AS p SET member = $2, epoch = p.epoch + 1
FROM free WHERE p.consumer = $1 AND p.partition = free.partition
