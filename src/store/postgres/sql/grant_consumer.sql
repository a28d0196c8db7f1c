-- Who follows as a consumer, and writes nothing to the log.
GRANT USAGE ON SCHEMA "mainstem" TO /* role */;
GRANT SELECT ON "mainstem"."events", "mainstem"."events_snapshots" TO /* role */;
GRANT SELECT, INSERT, UPDATE, DELETE ON "mainstem"."events_consumers", "mainstem"."events_members", "mainstem"."events_progress",
    "mainstem"."events_skipped" TO /* role */;
