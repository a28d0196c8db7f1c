INSERT INTO events (occurred_at, event_type, payload, metadata)
    SELECT occurred_at, type, payload, '{}' FROM mainstem.events ORDER BY position
