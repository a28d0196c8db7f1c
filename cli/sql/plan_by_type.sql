-- How a condition by type is searched for, behind the fence that the library puts around it.
EXPLAIN (COSTS OFF) SELECT e.position FROM "mainstem"."events" e WHERE e.type = ANY (ARRAY['mainstem doctor']) OFFSET 0
