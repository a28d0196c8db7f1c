-- All partitions of the consumer ($1) begin anew behind the event ($2, $3), and nobody's late checkpoint counts any more.
UPDATE "mainstem"."events_progress"
SET position = $2, id = $3, past = '[]', epoch = epoch + 1, member = NULL, saved_at = clock_timestamp()
WHERE consumer = $1
