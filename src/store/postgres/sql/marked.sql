-- The events at the positions that a token asks for, as far as they are there, and whether this is a replica by now.
SELECT e.position, e.id, pg_is_in_recovery()
FROM pg_catalog.unnest($1::int8[]) AS asked (position)
LEFT JOIN "mainstem"."events" e ON e.position = asked.position
