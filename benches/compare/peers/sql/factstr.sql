INSERT INTO events (sequence_number, occurred_at, event_type, payload)
    SELECT position, occurred_at, type, payload FROM mainstem.events ORDER BY position
