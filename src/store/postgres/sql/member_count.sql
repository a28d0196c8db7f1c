-- How many members the consumer ($1) has, and how many of them have joined before this one ($2): their ids follow their time.
SELECT count(*), count(*) FILTER (WHERE member < $2) FROM "mainstem"."events_members" WHERE consumer = $1
