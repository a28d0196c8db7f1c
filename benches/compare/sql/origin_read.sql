SELECT event_type, occurred_at, payload, metadata, sequence_number FROM origin.events
WHERE {filter} ORDER BY sequence_number ASC
