-- The events at the positions that a token asks for, as far as they are there.
SELECT e.position, e.id FROM "mainstem"."events" e WHERE e.position = ANY ($1)
