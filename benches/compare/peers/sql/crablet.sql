INSERT INTO events (type, tags, data, transaction_id, occurred_at)
    SELECT type, tags, payload::json, pg_current_xact_id(), occurred_at FROM mainstem.events ORDER BY position
