-- How many members the consumer ($1) has, and how many of them come before this one ($2) when partitions are left over: who
-- has more than it now, or as many and joined earlier, as far as the ids tell.
WITH owner AS MATERIALIZED (
    SELECT m.member, (SELECT count(*) FROM "mainstem"."events_progress" p WHERE p.consumer = $1 AND p.member = m.member) AS has
    FROM "mainstem"."events_members" m WHERE m.consumer = $1
)
SELECT (SELECT count(*) FROM owner),
       (SELECT count(*) FROM owner o JOIN owner me ON me.member = $2
        WHERE o.has > me.has OR o.has = me.has AND o.member < me.member)
