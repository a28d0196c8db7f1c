-- Who only reads: queries, streams, counts, fixed streams, snapshots, subscriptions, and how far consumers are.
GRANT USAGE ON SCHEMA "mainstem" TO /* role */;
GRANT SELECT ON "mainstem"."events", "mainstem"."events_snapshots" TO /* role */;
GRANT SELECT ON "mainstem"."events_consumers", "mainstem"."events_members", "mainstem"."events_progress",
    "mainstem"."events_skipped" TO /* role */;
