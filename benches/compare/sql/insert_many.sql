INSERT INTO plain.events (following, id, type, tags, payload, metadata, occurred_at, recorded_at)
SELECT 0, n.id, n.type, '{}', n.payload, n.metadata, $5, clock_timestamp()
FROM unnest($1::uuid[], $2::text[], $3::jsonb[], $4::jsonb[]) AS n (id, type, payload, metadata)
