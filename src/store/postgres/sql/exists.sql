-- Planned for all that matches, and read only up to the first. Without MATERIALIZED the planner would hope to meet one soon,
-- and read the whole log if there is none.
WITH found AS MATERIALIZED (
    SELECT FROM "mainstem"."events" e WHERE /* filter */
)
SELECT EXISTS (SELECT FROM found)
