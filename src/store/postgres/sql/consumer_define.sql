-- From now on the consumer ($1) has this filter ($2) and this version ($3).
UPDATE "mainstem"."events_consumers" SET filter = $2, version = $3 WHERE consumer = $1
