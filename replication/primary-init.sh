#!/bin/sh
# Makes a primary of a server that runs: settings, the replicator, a slot per replica, the application's role.
# In a container the image's entrypoint runs it once, from /docker-entrypoint-initdb.d. On a bare machine run it as the
# server's OS user, or with PGHOST, PGUSER and PGPASSWORD of a superuser. It may be run again: what is there, stays.
#
#   REPLICATOR_PASSWORD[_FILE]  password of the role `replicator`                                          (required)
#   REPLICATION_SLOTS           a slot for each replica, its REPLICA_NAME                (default: replica_1 replica_2)
#   APP_USER                    owner of the application's database, no superuser                     (default: none)
#   APP_PASSWORD[_FILE]         his password                                               (required with APP_USER)
#   APP_DATABASE                his database                                                      (default: APP_USER)
#   NODE_CONF                   file that $PGDATA/postgresql.conf shall include                        (default: none)
set -eu

from_file() { # from_file NAME: the variable NAME from the file that NAME_FILE names, unless it is set already
    eval "value=\${$1:-} file=\${$1_FILE:-}"
    if [ -z "$value" ] && [ -n "$file" ]; then value=$(cat "$file"); fi
    if [ -z "$value" ]; then
        echo "primary-init: $1 is empty: a role without a password lets nobody in, or everybody" >&2
        exit 1
    fi
    eval "$1=\$value"
}

from_file REPLICATOR_PASSWORD
APP_USER=${APP_USER:-}
if [ -n "$APP_USER" ]; then from_file APP_PASSWORD; fi
APP_DATABASE=${APP_DATABASE:-$APP_USER}
REPLICATION_SLOTS=${REPLICATION_SLOTS:-replica_1 replica_2}
# psql reads them from its environment (\getenv): as arguments they would stand in the process list.
export REPLICATOR_PASSWORD APP_USER APP_PASSWORD="${APP_PASSWORD:-}" APP_DATABASE REPLICATION_SLOTS

run_psql() { psql --no-psqlrc --no-password --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-${PGUSER:-postgres}}" --dbname postgres; }

run_psql <<'SQL'
\getenv password REPLICATOR_PASSWORD
\getenv slots REPLICATION_SLOTS
-- A password must not end in the server's log.
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';

SELECT 'CREATE ROLE replicator' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'replicator') \gexec
ALTER ROLE replicator WITH LOGIN REPLICATION NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD :'password';

-- Without WAL in reserve: a replica that never comes costs nothing. replica-entrypoint.sh reserves before its base backup.
SELECT count(pg_create_physical_replication_slot(name)) AS created
FROM regexp_split_to_table(trim(:'slots'), '\s+') AS name
WHERE name <> '' AND NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = name) \gset
SQL

if [ -n "$APP_USER" ]; then
    run_psql <<'SQL'
\getenv app APP_USER
\getenv password APP_PASSWORD
\getenv database APP_DATABASE
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';

SELECT format('CREATE ROLE %I', :'app') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'app') \gexec
ALTER ROLE :"app" WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD :'password';
-- Lag and the state of the WAL receiver are hidden from everybody else; the router's probe reads them.
GRANT pg_read_all_stats TO :"app";

SELECT format('CREATE DATABASE %I OWNER %I', :'database', :'app')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec
ALTER DATABASE :"database" OWNER TO :"app";
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
SQL
fi

if [ -n "${NODE_CONF:-}" ] && ! grep -qxF "include '$NODE_CONF'" "$PGDATA/postgresql.conf"; then
    # The last line wins, and a base backup carries it to the replicas.
    echo "include '$NODE_CONF'" >>"$PGDATA/postgresql.conf"
fi
