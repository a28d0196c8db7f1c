-- All partitions of the consumer ($1) begin anew after the event ($2, $3), and nobody's late checkpoint counts any more. All members
-- have to join anew, and the first one says what the filter and the version are: one that is refused then keeps nothing.
-- They are locked in the order in which a save locks them: otherwise the two might wait for each other.
WITH all_of_it AS (
    SELECT o.partition FROM "mainstem"."events_progress" o WHERE o.consumer = $1 ORDER BY o.partition FOR UPDATE
), members AS (
    DELETE FROM "mainstem"."events_members" WHERE consumer = $1
), consumer AS (
    UPDATE "mainstem"."events_consumers" SET filter = NULL, version = NULL WHERE consumer = $1
)
UPDATE "mainstem"."events_progress" AS p
SET position = $2, id = $3, past = '[]', epoch = p.epoch + 1, member = NULL, saved_at = clock_timestamp()
FROM all_of_it WHERE p.consumer = $1 AND p.partition = all_of_it.partition
