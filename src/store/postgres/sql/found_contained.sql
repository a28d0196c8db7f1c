-- Every match is in an index on what is contained, and that is the only way to find it quickly: the order by an expression keeps
-- the planner from walking the primary key instead, also while it takes the log for nearly empty.
"mainstem"."events" e WHERE /* filter */ ORDER BY e.position + 0/* order */
