-- Its members claim one after the other.
SELECT partitions, is_paused, filter, version FROM "mainstem"."events_consumers" WHERE consumer = $1 FOR UPDATE
