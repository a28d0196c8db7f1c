SELECT count(*) FROM "mainstem"."events_members" WHERE consumer = $1
