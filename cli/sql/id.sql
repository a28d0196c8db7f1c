SELECT id FROM "mainstem"."events" WHERE position = $1
