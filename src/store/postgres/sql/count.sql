SELECT count(*) FROM "mainstem"."events" e WHERE /* filter */
