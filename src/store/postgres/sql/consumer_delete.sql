WITH members AS (
    DELETE FROM "mainstem"."events_members" WHERE consumer = $1
), progress AS (
    DELETE FROM "mainstem"."events_progress" WHERE consumer = $1
), skipped AS (
    DELETE FROM "mainstem"."events_skipped" WHERE consumer = $1
)
DELETE FROM "mainstem"."events_consumers" WHERE consumer = $1
