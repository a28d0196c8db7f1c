-- What one node says of itself, as JSON. Anybody may ask; what a role without pg_read_all_stats is not told is null.
SELECT pg_catalog.json_build_object(
    'version', current_setting('server_version'),
    'database', current_database(),
    'encoding', current_setting('server_encoding'),
    'role', current_user,
    'is_superuser', (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
    'sees_statistics', pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
    'settings', (SELECT pg_catalog.json_object_agg(name, setting) FROM pg_settings WHERE name IN (
        'autovacuum', 'autovacuum_freeze_max_age', 'default_transaction_isolation', 'default_transaction_read_only', 'fsync', 'full_page_writes',
        'hot_standby_feedback', 'idle_in_transaction_session_timeout', 'jit', 'max_connections',
        'max_slot_wal_keep_size', 'max_standby_streaming_delay', 'reserved_connections', 'superuser_reserved_connections', 'synchronous_commit',
        'synchronous_standby_names', 'tcp_keepalives_idle', 'wal_level', 'wal_receiver_timeout', 'wal_sender_timeout')),
    'slots', (SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
            'name', slot_name, 'is_logical', slot_type = 'logical', 'is_active', active, 'wal_status', wal_status,
            'held_bytes', CASE WHEN NOT pg_is_in_recovery()
                               THEN pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint END)), '[]')
        FROM pg_replication_slots),
    'synchronous_standbys', (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum', 'potential')),
    'transaction_age', (SELECT age(datfrozenxid) FROM pg_database WHERE datname = current_database()),
    'role_connections', (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = session_user),
    'database_connections', (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database()),
    'connections', (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
    'idle_in_transaction_seconds', (SELECT max(extract(epoch FROM clock_timestamp() - state_change))::bigint
        FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%')
)::text
