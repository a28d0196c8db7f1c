-- How a condition by payload is searched for, behind the fence that the library puts around it.
EXPLAIN (COSTS OFF) SELECT e.position FROM "mainstem"."events" e WHERE e.payload @> '{"mainstem": "doctor"}' OFFSET 0
