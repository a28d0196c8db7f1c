-- Saves the event ($6, $7) as the checkpoint of partitions ($3), if they are all still the member's ($2), in the epochs ($4)
-- that it knows, and have been saved as far as ($8); all or none. None goes back. $5 are the earlier checkpoints of each.
-- Whether it may be saved, whether any partition has got on by it, and whether none had got further than to where what is saved
-- begins ($9).
WITH mine AS (
    SELECT p.partition, p.position, w.past, w.base
    FROM "mainstem"."events_progress" p
    JOIN unnest($3::int4[], $4::bigint[], $5::text[], $8::bigint[], $9::bigint[]) AS w(partition, epoch, past, needs, base)
        ON w.partition = p.partition AND w.epoch = p.epoch AND w.needs <= p.position
    WHERE p.consumer = $1 AND p.member = $2
    ORDER BY p.partition
    FOR UPDATE OF p
), saved AS (
    UPDATE "mainstem"."events_progress" AS p
    SET position = $6, id = $7, past = mine.past::json, saved_at = clock_timestamp()
    FROM mine
    WHERE p.consumer = $1 AND p.partition = mine.partition AND p.position < $6
      AND (SELECT count(*) FROM mine) = pg_catalog.cardinality($3)
    RETURNING p.partition
)
SELECT (SELECT count(*) FROM mine) = pg_catalog.cardinality($3), EXISTS (SELECT FROM saved), NOT EXISTS (SELECT FROM mine WHERE position > base)
