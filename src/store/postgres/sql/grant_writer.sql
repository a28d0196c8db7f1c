-- Who reads, appends, follows as a consumer, and keeps snapshots. Nobody may change or delete an event; snapshots are a cache.
GRANT USAGE ON SCHEMA "mainstem" TO /* role */;
GRANT SELECT, INSERT ON "mainstem"."events" TO /* role */;
GRANT EXECUTE ON PROCEDURE "mainstem"."events_append_1" TO /* role */;
GRANT EXECUTE ON FUNCTION "mainstem"."events_merge_pending" TO /* role */;
GRANT SELECT, INSERT, UPDATE, DELETE ON "mainstem"."events_snapshots" TO /* role */;
GRANT SELECT, INSERT, UPDATE, DELETE ON "mainstem"."events_consumers", "mainstem"."events_members", "mainstem"."events_progress",
    "mainstem"."events_skipped" TO /* role */;
