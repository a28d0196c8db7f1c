-- The first event of these positions whose stream lacks the version before it, or has that at a later position.
SELECT e.position, e.stream, e.version
FROM "mainstem"."events" e
WHERE e.position > $1 AND e.position <= $2 AND e.stream IS NOT NULL AND e.version > 1
  AND NOT EXISTS (SELECT FROM "mainstem"."events" b
                  WHERE b.stream = e.stream AND b.version = e.version - 1 AND b.position < e.position)
ORDER BY e.position LIMIT 1
