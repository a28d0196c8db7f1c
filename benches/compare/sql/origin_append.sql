WITH context AS (SELECT MAX(sequence_number) AS max_seq FROM origin.events WHERE {filter})
INSERT INTO origin.events (event_type, occurred_at, payload, metadata)
SELECT '{type}', '{occurred_at}', '{payload}', '{metadata}' FROM context WHERE COALESCE(max_seq, 0) = {expected}
RETURNING sequence_number
