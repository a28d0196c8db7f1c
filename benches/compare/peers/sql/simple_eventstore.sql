INSERT INTO events (stream_id, version, event_id, event_type, event_data, timestamp)
    SELECT book, number, book || '-' || number, type, convert_to(payload::text, 'UTF8'), occurred_at
    FROM (
        SELECT position, type, payload, occurred_at, book, row_number() OVER (PARTITION BY book ORDER BY position) AS number
        FROM (SELECT *, payload ->> 'BookID' AS book FROM mainstem.events) AS log
    ) AS streams
    ORDER BY position
