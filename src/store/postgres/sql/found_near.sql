-- The few events after a position that is near the log's end, looked at one by one, whatever the filter is. Bounded at both
-- ends, so that no plan reads more of them; if there are more, the head tells.
"mainstem"."events" e WHERE e.position > /* after */ AND e.position <= /* until */ AND (/* filter */) IS TRUE ORDER BY e.position/* limit */
