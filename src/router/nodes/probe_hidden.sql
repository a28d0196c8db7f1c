-- The same from a server that keeps its control data to itself.
SELECT pg_is_in_recovery(),
       NULL::int8,
       CASE WHEN pg_is_in_recovery()
            THEN (SELECT received_tli::int8 FROM pg_stat_wal_receiver)
            ELSE ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::int8
       END,
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END,
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() END,
       EXISTS (SELECT FROM pg_stat_wal_receiver),
       (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::int8,
       current_setting('server_version_num')::int4 / 10000,
       pg_is_in_recovery()
