SELECT "mainstem"."events_merge_pending"()
