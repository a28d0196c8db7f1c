-- The search is fenced by OFFSET 0, or the planner would walk the primary key until it has as many as it may return, through
-- the whole log if there are fewer.
(SELECT * FROM "mainstem"."events" e WHERE /* filter */ OFFSET 0) e ORDER BY e.position/* order *//* limit */
