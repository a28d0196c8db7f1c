-- Where a node is, for guards and tokens. The place comes before the timeline: a server
-- that reports this timeline after its place was already on it when it reported the place.
SELECT pg_is_in_recovery(),
       -- What it has; of a primary, including what is not flushed yet.
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END,
       -- What has been acknowledged on it is before this. A commit under synchronous_commit = off is acknowledged before it
       -- is flushed; otherwise the end of what was inserted may be a page further on than any replica ever gets.
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
            WHEN current_setting('synchronous_commit') = 'off' THEN pg_current_wal_insert_lsn()
            ELSE pg_current_wal_flush_lsn()
       END,
       -- A replica's is only shown to members of pg_read_all_stats.
       CASE WHEN pg_is_in_recovery() THEN (SELECT received_tli::int8 FROM pg_stat_wal_receiver)
            ELSE ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::int8
       END
