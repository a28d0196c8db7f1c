COPY (SELECT position, id, type, tags, payload, metadata, occurred_at, recorded_at FROM mainstem.events ORDER BY position)
TO STDOUT (FORMAT binary)
