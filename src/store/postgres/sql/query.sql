-- The log's head comes first, in the snapshot that the events are read in: a row without a type. An append of rows keeps
-- their order; it would not if it ran in parallel, but nothing is parallel that reads from the expression `head`.
WITH head AS MATERIALIZED (
    SELECT position, id FROM "mainstem"."events" /* head */
)
SELECT position, id, NULL::text, NULL::text[], NULL::jsonb, NULL::jsonb, NULL::timestamptz, NULL::timestamptz FROM head
UNION ALL (
SELECT e.position, e.id, e.type, e.tags, e.payload, e.metadata, e.occurred_at, e.recorded_at
FROM /* found */
)
