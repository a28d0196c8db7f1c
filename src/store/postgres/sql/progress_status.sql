-- Of each partition: its checkpoint, who has it, and how far it is behind: in events, and since when the first of them waits.
SELECT c.is_paused, p.partition, p.position, p.id, p.epoch, p.member, p.saved_at,
       coalesce(head.position, 0) - p.position, clock_timestamp(), next.recorded_at,
       (SELECT count(*) FROM "mainstem"."events_skipped" s WHERE s.consumer = $1)
FROM "mainstem"."events_consumers" c
JOIN "mainstem"."events_progress" p ON p.consumer = c.consumer
LEFT JOIN LATERAL (
    SELECT e.position FROM "mainstem"."events" e ORDER BY e.position DESC LIMIT 1
) AS head ON true
LEFT JOIN LATERAL (
    SELECT e.recorded_at FROM "mainstem"."events" e WHERE e.position > p.position ORDER BY e.position LIMIT 1
) AS next ON true
WHERE c.consumer = $1
ORDER BY p.partition
