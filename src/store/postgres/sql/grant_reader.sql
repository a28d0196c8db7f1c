-- Who only reads: queries, streams, counts, fixed streams, snapshots.
GRANT USAGE ON SCHEMA "mainstem" TO /* role */;
GRANT SELECT ON "mainstem"."events", "mainstem"."events_snapshots" TO /* role */;
