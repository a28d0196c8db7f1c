DO $$
DECLARE event record;
BEGIN
    FOR event IN SELECT occurred_at, type, payload, metadata FROM "mainstem"."events" WHERE position > {after} ORDER BY position LOOP
        INSERT INTO origin.events (occurred_at, event_type, payload, metadata)
        VALUES (event.occurred_at, event.type, event.payload, event.metadata);
        COMMIT;
    END LOOP;
END $$
