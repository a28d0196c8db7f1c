SELECT position, id, following FROM "mainstem"."events" ORDER BY position DESC LIMIT 1
