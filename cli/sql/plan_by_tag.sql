-- How a condition by tag is searched for, behind the fence that the library puts around it.
EXPLAIN (COSTS OFF) SELECT e.position FROM "mainstem"."events" e WHERE e.tags @> ARRAY['mainstem doctor'] OFFSET 0
