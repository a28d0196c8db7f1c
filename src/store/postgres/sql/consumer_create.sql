-- A new consumer ($1) of so many partitions ($2), which all begin after the event ($3, $4), with this filter ($5) and version ($6).
-- One that is there stays as it is.
WITH consumer AS (
    INSERT INTO "mainstem"."events_consumers" (consumer, partitions, is_paused, filter, version)
    VALUES ($1, $2, false, $5, $6)
    ON CONFLICT (consumer) DO NOTHING
    RETURNING consumer, partitions
)
INSERT INTO "mainstem"."events_progress" (consumer, partition, position, id, past, epoch, saved_at)
SELECT c.consumer, p.partition, $3, $4, '[]', 0, clock_timestamp()
FROM consumer c, generate_series(0, c.partitions - 1) AS p(partition)
