-- The head in each row: what the store sends.
WITH head AS MATERIALIZED (SELECT position, id FROM mainstem.events ORDER BY position DESC LIMIT 1)
SELECT head.position, head.id, e.position, e.id, e.type, e.tags, e.payload, e.metadata, e.occurred_at, e.recorded_at
FROM head LEFT JOIN mainstem.events e ON e.type = ANY ($1) AND (e.payload @> $2 OR e.payload @> $3)
ORDER BY e.position
