-- The member ($2) lives for so many seconds ($3), and those whose time is over are gone. So are those whose time is further away
-- than they can have set it: that was on another server, whose clock is ahead of this one's, and they have not renewed it here.
-- (A clock that is corrected a little does not end anybody.)
WITH gone AS (
    DELETE FROM "mainstem"."events_members"
    WHERE consumer = $1 AND member <> $2
      AND (alive_until < clock_timestamp() OR alive_until > clock_timestamp() + 2::float8 * lease)
)
INSERT INTO "mainstem"."events_members" (consumer, member, alive_until, lease)
VALUES ($1, $2, clock_timestamp() + $3::float8 * interval '1 second', $3::float8 * interval '1 second')
ON CONFLICT (consumer, member) DO UPDATE SET alive_until = excluded.alive_until, lease = excluded.lease
