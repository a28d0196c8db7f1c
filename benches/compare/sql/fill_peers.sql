INSERT INTO plain.events SELECT * FROM "mainstem"."events" ORDER BY position;
SELECT setval('plain.events_position', (SELECT max(position) FROM plain.events));
INSERT INTO origin.events (occurred_at, event_type, payload, metadata)
    SELECT occurred_at, type, payload, metadata FROM "mainstem"."events" ORDER BY position;
