-- Of the events that have the key. That a value is asked for implies that it is not null, so the planner can use it.
CREATE INDEX CONCURRENTLY /* index */ ON "mainstem"."events" (/* indexed */, position) WHERE /* indexed */ IS NOT NULL
