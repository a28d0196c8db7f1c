-- The payload as its serde has it: the variant's name around its fields.
INSERT INTO event (event_type, payload, inserted_at, book_id)
    SELECT type, convert_to(jsonb_build_object(type, jsonb_build_object(
            'book_id', payload ->> 'BookID', 'content', payload - 'BookID'))::text, 'UTF8'),
        occurred_at, payload ->> 'BookID'
    FROM mainstem.events ORDER BY position
