-- The few of each type come from its end of the index on type and position. A comparison by = would leave the order to the
-- primary key alone, and the planner could walk that one, through the whole log for a type that is not there.
(
    SELECT l.* FROM pg_catalog.unnest(/* types */::text[]) AS t(type), LATERAL (
        SELECT * FROM "mainstem"."events" e WHERE e.type >= t.type AND e.type <= t.type/* bounds */
        ORDER BY e.type/* order */, e.position/* order *//* limit */
    ) AS l
) e ORDER BY e.position/* order *//* limit */
