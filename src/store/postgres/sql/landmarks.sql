WHERE position = ANY (/* positions */::bigint[])
UNION ALL (SELECT position, id FROM "mainstem"."events" ORDER BY position DESC LIMIT 1)
