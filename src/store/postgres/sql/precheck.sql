-- Before the lock: is there an event that matches, are these events ($1) there already, so that their own first append is what
-- would be found, and is the event there, at the position $2 and with the id $3 (or any, if that is NULL), that the condition
-- looks after? The search is fenced by OFFSET 0, or the planner would walk the primary key to find
-- the first match, through the whole log if there is none. What changes a setting is never done by parallel workers: to start
-- them takes longer than the search, and a plan for any value would have them on a long log.
WITH head AS MATERIALIZED (
    SELECT position, id FROM "mainstem"."events" ORDER BY position DESC LIMIT 1
)
SELECT head.position, head.id,
       broken.position, broken.type,
       EXISTS (SELECT FROM "mainstem"."events" e WHERE e.id = ANY ($1)),
       head.position >= $2
           AND ($3::uuid IS NULL OR EXISTS (SELECT FROM "mainstem"."events" e WHERE e.position = $2 AND e.id = $3))
-- The setting comes before the scan, as a filter of its own, and holds for this statement only. Above that limit, an index on tags
-- or payloads leaves out what it likes: in a session of ours it is 0, but this may be one of a pool that was handed in. (No common
-- table expression: with a setting in it, all that it finds would be kept.)
FROM head LEFT JOIN (
    SELECT e.position, e.type FROM "mainstem"."events" e
    WHERE (SELECT pg_catalog.set_config('gin_fuzzy_search_limit', '0', true)) IS NOT NULL AND /* filter */ OFFSET 0
) AS broken ON true
WHERE pg_catalog.set_config('max_parallel_workers_per_gather', '0', true) IS NOT NULL
ORDER BY broken.position LIMIT 1
