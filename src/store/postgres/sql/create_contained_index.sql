-- With a list for new entries, as the log's own indexes have it (migrations/V1__log.sql).
CREATE INDEX CONCURRENTLY /* index */ ON "mainstem"."events" USING gin (/* indexed */ jsonb_path_ops)
    WITH (fastupdate = on, gin_pending_list_limit = 2048)
