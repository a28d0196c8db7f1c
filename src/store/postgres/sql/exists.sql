-- Planned for all that matches, and read only up to the first. Without MATERIALIZED the planner would hope to meet one soon,
-- and read the whole log if there is none. Without parallel workers, as in precheck.sql.
WITH found AS MATERIALIZED (
    SELECT FROM "mainstem"."events" e WHERE /* filter */
)
SELECT EXISTS (SELECT FROM found)
WHERE pg_catalog.set_config('max_parallel_workers_per_gather', '0', true) IS NOT NULL
