-- Which of these positions the log has, and by which events.
SELECT position, id FROM "mainstem"."events" WHERE position = ANY ($1::bigint[]) ORDER BY position DESC
