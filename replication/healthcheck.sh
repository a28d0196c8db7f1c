#!/bin/sh
# healthcheck.sh primary|replica: status 0 when this node does what the name says. `pg_isready` is content with any
# server that listens, also with a replica that lost its primary long ago, and with the server that only runs the
# set-up scripts: that one has no TCP port yet, so the question is asked over TCP.
set -eu

case ${1:-} in
primary) question="SELECT CASE WHEN pg_is_in_recovery() THEN 'in recovery: this is a replica' ELSE 'ok' END" ;;
replica) question="SELECT CASE
    WHEN NOT pg_is_in_recovery() THEN 'not in recovery: this replica was promoted'
    WHEN EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming') THEN 'ok'
    ELSE 'answers, but does not stream from its primary' END" ;;
*)
    echo "usage: healthcheck.sh primary|replica" >&2
    exit 2
    ;;
esac

answer=$(PGPASSWORD=${PGPASSWORD:-${POSTGRES_PASSWORD:-}} PGCONNECT_TIMEOUT=3 PGOPTIONS='-c statement_timeout=3s' \
    psql --no-psqlrc --no-password --tuples-only --no-align --host 127.0.0.1 \
    --username "${POSTGRES_USER:-postgres}" --dbname postgres --command "$question")
echo "$answer"
[ "$answer" = ok ]
