WITH me AS (
    DELETE FROM "mainstem"."events_members" WHERE consumer = $1 AND member = $2
)
UPDATE "mainstem"."events_progress" SET member = NULL WHERE consumer = $1 AND member = $2
