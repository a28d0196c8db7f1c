-- What is there of the log $2 in the schema $1, and what this role may do with it, as JSON.
SELECT pg_catalog.json_build_object(
    'is_there', c.oid IS NOT NULL,
    'rows', coalesce(c.reltuples, -1)::bigint,
    'bytes', coalesce(pg_relation_size(c.oid), 0),
    'may_use_schema', coalesce(has_schema_privilege(n.oid, 'USAGE'), false),
    'may_select', coalesce(has_table_privilege(c.oid, 'SELECT'), false),
    'may_insert', coalesce(has_table_privilege(c.oid, 'INSERT'), false),
    'may_execute', coalesce((SELECT bool_and(has_function_privilege(p.oid, 'EXECUTE')) FROM pg_proc p
                             WHERE p.pronamespace = n.oid AND p.proname = $2::text || '_append_1'), false),
    'invalid_indexes', (SELECT coalesce(pg_catalog.json_agg(i.indexrelid::regclass::text), '[]') FROM pg_index i
                        WHERE i.indrelid = c.oid AND NOT (i.indisvalid AND i.indisready)
                          AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index b WHERE b.index_relid = i.indexrelid))
)::text
FROM (SELECT) AS one
LEFT JOIN pg_namespace n ON n.nspname = $1::text
LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = $2::text AND c.relkind IN ('r', 'p')
