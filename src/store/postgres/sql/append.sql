CALL "mainstem"."events_append_1"($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, NULL, NULL, NULL)
