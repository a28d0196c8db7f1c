-- The few events behind a position that is near the log's end, by the primary key, whatever the filter is. If there are more, the
-- head tells.
(SELECT * FROM "mainstem"."events" e WHERE e.position > /* after */ ORDER BY e.position LIMIT 256) e
WHERE /* filter */ ORDER BY e.position
