SELECT position, id, following FROM "mainstem"."events" WHERE position = $1
