INSERT INTO "mainstem"."events_skipped" (consumer, position, id, reason, attempts, skipped_at)
VALUES ($1, $2, $3, $4, $5, clock_timestamp())
ON CONFLICT (consumer, position, id) DO NOTHING
