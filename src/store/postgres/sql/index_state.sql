-- What has the name $1: an index of the log, and one that can be used?
SELECT i.indrelid IS NOT DISTINCT FROM '"mainstem"."events"'::regclass, coalesce(i.indisvalid AND i.indisready, false)
FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
WHERE c.oid = pg_catalog.to_regclass($1)
