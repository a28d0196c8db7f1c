-- The member ($2) lives for so many seconds more ($3). Whether it is still one, whether the consumer is paused, its
-- partitions, its members who live (see member_live.sql), how many partitions this one has, and how many nobody has,
-- how far the one of its partitions is that is furthest behind, and how many of those who live come before it (see member_count.sql).
WITH me AS (
    UPDATE "mainstem"."events_members" SET alive_until = clock_timestamp() + $3::float8 * interval '1 second'
    WHERE consumer = $1 AND member = $2 RETURNING member
), living AS MATERIALIZED (
    SELECT m.member, (SELECT count(*) FROM "mainstem"."events_progress" p WHERE p.consumer = $1 AND p.member = m.member) AS has
    FROM "mainstem"."events_members" m
    WHERE m.consumer = $1
      AND (m.member = $2 OR m.alive_until >= clock_timestamp() AND m.alive_until <= clock_timestamp() + 2::float8 * m.lease)
)
SELECT EXISTS (SELECT FROM me), c.is_paused, c.partitions, (SELECT count(*) FROM living),
       (SELECT count(*) FROM "mainstem"."events_progress" p WHERE p.consumer = $1 AND p.member = $2),
       (SELECT count(*) FROM "mainstem"."events_progress" p
        WHERE p.consumer = $1 AND (p.member IS NULL OR p.member NOT IN (SELECT member FROM living))),
       (SELECT coalesce(min(p.position), 0) FROM "mainstem"."events_progress" p WHERE p.consumer = $1 AND p.member = $2),
       (SELECT count(*) FROM living o JOIN living me ON me.member = $2
        WHERE o.has > me.has OR o.has = me.has AND o.member < me.member)
FROM "mainstem"."events_consumers" c WHERE c.consumer = $1
