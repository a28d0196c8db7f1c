-- Nobody is a member of the consumer ($1) any more, and nobody's late checkpoint counts; all checkpoints stay. They are locked in
-- the order in which a save locks them: otherwise the two might wait for each other.
WITH all_of_it AS (
    SELECT o.partition FROM "mainstem"."events_progress" o WHERE o.consumer = $1 ORDER BY o.partition FOR UPDATE
), members AS (
    DELETE FROM "mainstem"."events_members" WHERE consumer = $1
)
UPDATE "mainstem"."events_progress" AS p SET epoch = p.epoch + 1, member = NULL
FROM all_of_it WHERE p.consumer = $1 AND p.partition = all_of_it.partition
