-- The rows of the history that refinery cannot read.
SELECT FROM /* history */ AS h
WHERE (CASE WHEN pg_catalog.pg_typeof(h.version)::oid = 'pg_catalog.int4'::regtype::oid
             AND h.name IS NOT NULL
             AND h.checksum::text ~ '^[0-9]{1,20}$'
             AND h.applied_on::text ~ '^[0-9]{4}(-[0-9]{2}){2}T([0-9]{2}:){2}[0-5][0-9]([.][0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$'
       THEN h.checksum::numeric <= 18446744073709551615 AND h.applied_on::timestamptz IS NOT NULL
       END) IS NOT TRUE
