-- A stretch of the log: how many events it has, the first after a gap, the first that does not continue the append of the one before
-- it, and a digest of all that is in them, whatever the settings of the server are.
SELECT count(*), min(c.position) FILTER (WHERE c.position <> c.expected),
       min(c.position) FILTER (WHERE c.before > 0 AND c.following <> c.before - 1),
       md5(string_agg(c.digest, '' ORDER BY c.position))
FROM (
    SELECT e.position, e.following, coalesce(pg_catalog.lag(e.position) OVER w, $1) + 1 AS expected,
           pg_catalog.lag(e.following) OVER w AS before,
           md5(ROW(e.position, e.following, e.id, e.type, e.tags, e.payload, e.metadata, encode(sha256(e.bytes), 'hex'), e.content_type,
                   e.stream, e.version, extract(epoch FROM e.occurred_at), extract(epoch FROM e.recorded_at))::text) AS digest
    FROM "mainstem"."events" e WHERE e.position >= $1 AND e.position <= $2
    WINDOW w AS (ORDER BY e.position)
) AS c WHERE c.position > $1
