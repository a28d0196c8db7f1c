#!/bin/sh
# Makes a replica in an empty PGDATA, by a base backup from the primary, and then runs the command given as arguments
# (`docker-entrypoint.sh postgres …` in a container, `postgres …` elsewhere). With data in PGDATA it goes straight to
# the command: a restart, also of a replica that was promoted, never copies anything again.
# Runs as the server's OS user.
#
#   PGDATA                      where the replica's data goes; must not be a mount point itself               (required)
#   PRIMARY_HOST                the primary's host                                                            (required)
#   PRIMARY_PORT                the primary's port                                                       (default: 5432)
#   REPLICA_NAME                its slot on the primary, and its name in pg_stat_replication                  (required)
#   REPLICATOR_PASSWORD[_FILE]  password of the role `replicator`                                             (required)
#   PRIMARY_WAIT_SECONDS        how long to wait for the primary; too short: a replica that starts beside a
#                               slow primary gives up, too long: a wrong host is noticed late              (default: 60)
set -eu

fail() {
    echo "replica-entrypoint: $*" >&2
    exit 1
}

: "${PGDATA:?replica-entrypoint: where shall the data go?}"
: "${PRIMARY_HOST:?replica-entrypoint: which host is the primary?}"
: "${REPLICA_NAME:?replica-entrypoint: which slot of the primary is this replica to use?}"
case $REPLICA_NAME in
*[!a-z0-9_]*) fail "REPLICA_NAME is $REPLICA_NAME, and a slot's name has only lower-case letters, digits and _" ;;
esac
PRIMARY_PORT=${PRIMARY_PORT:-5432}
PRIMARY_WAIT_SECONDS=${PRIMARY_WAIT_SECONDS:-60}
if [ -z "${REPLICATOR_PASSWORD:-}" ] && [ -n "${REPLICATOR_PASSWORD_FILE:-}" ]; then
    REPLICATOR_PASSWORD=$(cat "$REPLICATOR_PASSWORD_FILE")
fi
[ -n "${REPLICATOR_PASSWORD:-}" ] || fail "REPLICATOR_PASSWORD is empty"
[ "$(id -u)" != 0 ] || fail "runs as root: use the server's OS user (in compose: 'user: postgres')"

parent=$(dirname "$PGDATA")
passfile=$parent/replicator.pgpass
incoming=$PGDATA.incoming
mkdir -p "$parent"

# In a file of its own and written at each start: a changed password needs a restart, no new base backup.
(
    umask 077
    escaped=$(printf '%s' "$REPLICATOR_PASSWORD" | sed 's/[\\:]/\\&/g')
    printf '*:*:*:replicator:%s\n' "$escaped" >"$passfile"
)
unset REPLICATOR_PASSWORD

if [ -s "$PGDATA/PG_VERSION" ]; then exec "$@"; fi
if [ -e "$PGDATA" ]; then
    rmdir "$PGDATA" || fail "$PGDATA is neither a database nor removable: empty it, and mount the folder above it"
fi

# As the first process of a container a shell ignores signals that it has no trap for, and it acts on them only
# between two children: so children run in the background, and `wait` is what a signal interrupts.
child=
stop() {
    if [ -n "$child" ]; then kill "$child" 2>/dev/null || :; fi
    exit 143
}
trap stop INT TERM HUP
run() {
    "$@" &
    child=$!
    result=0
    wait "$child" || result=$?
    child=
    return $result
}

deadline=$(($(date +%s) + PRIMARY_WAIT_SECONDS))
until run pg_isready --quiet --host "$PRIMARY_HOST" --port "$PRIMARY_PORT" --timeout 2; do
    [ "$(date +%s)" -lt "$deadline" ] ||
        fail "no primary at $PRIMARY_HOST:$PRIMARY_PORT accepted connections within $PRIMARY_WAIT_SECONDS s"
    run sleep 0.5
done

quoted=$(printf '%s' "$passfile" | sed "s/['\\\\]/\\\\&/g")
conninfo="host=$PRIMARY_HOST port=$PRIMARY_PORT user=replicator passfile='$quoted' application_name=$REPLICA_NAME"
conninfo="$conninfo connect_timeout=5 keepalives_idle=10 keepalives_interval=5 keepalives_count=3"

replication() {
    psql --no-psqlrc --no-password --tuples-only --no-align --quiet --command "$1" "$conninfo replication=1"
}

# Asked first: pg_basebackup would copy everything before it says that the slot is missing.
slot=$(replication "READ_REPLICATION_SLOT $REPLICA_NAME") ||
    fail "the primary at $PRIMARY_HOST:$PRIMARY_PORT refused the role replicator (the line above says why): is" \
        "REPLICATOR_PASSWORD the one that the primary was made with, and does its pg_hba.conf let this host in?"
case $slot in
physical\|*/*) ;;
physical\|*)
    # Never used, or given up by the primary (max_slot_wal_keep_size). It has to keep WAL from before the backup's
    # checkpoint on: another replica's backup makes a checkpoint too, and that one removes what this one needs.
    if ! replication "DROP_REPLICATION_SLOT $REPLICA_NAME" ||
        ! replication "CREATE_REPLICATION_SLOT $REPLICA_NAME PHYSICAL RESERVE_WAL" >/dev/null; then
        fail "the primary has a slot $REPLICA_NAME that keeps no WAL, and it could not be made anew"
    fi
    ;;
*) fail "the primary has no physical slot $REPLICA_NAME: SELECT pg_create_physical_replication_slot('$REPLICA_NAME')" ;;
esac

# Into a folder beside it, renamed when complete: what a kill leaves behind must not look like a database.
rm -rf "$incoming"
run pg_basebackup --dbname "$conninfo" --pgdata "$incoming" --write-recovery-conf --wal-method stream \
    --slot "$REPLICA_NAME" --checkpoint fast --no-password ||
    fail "the base backup from $PRIMARY_HOST:$PRIMARY_PORT failed; $PGDATA was left alone"
mv "$incoming" "$PGDATA"
echo "replica-entrypoint: $REPLICA_NAME has its base backup from $PRIMARY_HOST:$PRIMARY_PORT" >&2

trap - INT TERM HUP
exec "$@"
