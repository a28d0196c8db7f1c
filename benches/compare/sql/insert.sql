INSERT INTO plain.events (following, id, type, tags, payload, metadata, occurred_at, recorded_at)
VALUES (0, $1, $2, '{}', $3, $4, $5, clock_timestamp())
