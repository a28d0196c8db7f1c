"mainstem"."events" e WHERE /* filter */ ORDER BY e.position/* order *//* limit */
