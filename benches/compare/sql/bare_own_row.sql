-- The head in a row of its own, behind the events.
SELECT false AS is_head, position, id, type, tags, payload, metadata, occurred_at, recorded_at FROM mainstem.events
WHERE type = ANY ($1) AND (payload @> $2 OR payload @> $3)
UNION ALL
(SELECT true, position, id, NULL, NULL, NULL, NULL, NULL, NULL FROM mainstem.events ORDER BY position DESC LIMIT 1)
ORDER BY is_head, position
