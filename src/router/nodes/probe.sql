-- What a node says of itself: in one statement, so that its timeline and its place belong together.
-- On a replica the newest timeline that it has reached is in one of three places, none of which is ever ahead of it. The first
-- is hidden from roles without pg_read_all_stats, and the others are behind until the next restart point.
SELECT pg_is_in_recovery(),
       (SELECT system_identifier FROM pg_control_system()),
       CASE WHEN pg_is_in_recovery()
            THEN (SELECT max(timeline)::int8
                  FROM (SELECT received_tli FROM pg_stat_wal_receiver
                        UNION ALL SELECT timeline_id FROM pg_control_checkpoint()
                        UNION ALL SELECT min_recovery_end_timeline FROM pg_control_recovery()) AS reached (timeline))
            -- pg_control_checkpoint is behind for minutes after a promotion.
            ELSE ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::int8
       END,
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END,
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() END,
       EXISTS (SELECT FROM pg_stat_wal_receiver),
       (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::int8,
       current_setting('server_version_num')::int4 / 10000,
       EXISTS (SELECT FROM pg_stat_wal_receiver WHERE received_tli IS NULL)
