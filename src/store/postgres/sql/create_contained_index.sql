-- fastupdate = off, as for the log's own: with a pending list, every search also reads the list.
CREATE INDEX CONCURRENTLY /* index */ ON "mainstem"."events" USING gin (/* indexed */ jsonb_path_ops) WITH (fastupdate = off)
