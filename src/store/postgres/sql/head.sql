-- Where the log ends.
SELECT e.position, e.id FROM "mainstem"."events" e ORDER BY e.position DESC LIMIT 1
