-- The member ($2) lives for so many seconds ($3), and those whose time is over are gone.
WITH gone AS (
    DELETE FROM "mainstem"."events_members" WHERE consumer = $1 AND alive_until < clock_timestamp() AND member <> $2
)
INSERT INTO "mainstem"."events_members" (consumer, member, alive_until)
VALUES ($1, $2, clock_timestamp() + $3::float8 * interval '1 second')
ON CONFLICT (consumer, member) DO UPDATE SET alive_until = excluded.alive_until
