-- What is left of the consumer ($1), when nobody can commit for it any more.
WITH members AS (
    DELETE FROM "mainstem"."events_members" WHERE consumer = $1
), skipped AS (
    DELETE FROM "mainstem"."events_skipped" WHERE consumer = $1
)
DELETE FROM "mainstem"."events_consumers" WHERE consumer = $1
