#!/bin/sh
# Entrypoint of the stand-in image: the part of the official image's contract that compose files and test libraries
# lean on. With `postgres …` (or just options) as arguments it makes the database in an empty PGDATA, runs the files in
# /docker-entrypoint-initdb.d once, and becomes the server. With any other command it becomes that.
#
#   POSTGRES_PASSWORD[_FILE]   superuser's password           (required, unless POSTGRES_HOST_AUTH_METHOD=trust)
#   POSTGRES_USER[_FILE]       superuser's name                                              (default: postgres)
#   POSTGRES_DB[_FILE]         database to create                                       (default: POSTGRES_USER)
#   POSTGRES_INITDB_ARGS[_FILE], POSTGRES_INITDB_WALDIR, POSTGRES_HOST_AUTH_METHOD, PGDATA: as there
set -eu

fail() {
    echo "stand-in: $*" >&2
    exit 1
}

from_env_or_file() { # from_env_or_file NAME DEFAULT
    eval "value=\${$1:-} file=\${$1_FILE:-}"
    if [ -n "$value" ] && [ -n "$file" ]; then fail "$1 and $1_FILE are both set"; fi
    if [ -n "$file" ]; then value=$(cat "$file"); fi
    eval "$1=\${value:-\$2}"
    export "${1?}"
    unset "$1_FILE"
}

sql() { PGHOST='' PGHOSTADDR='' psql --no-psqlrc --no-password --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" "$@"; }

quoted() { # each argument in quotes for the shell that pg_ctl starts the server with
    for argument; do printf "'%s' " "$(printf '%s' "$argument" | sed "s/'/'\\\\''/g")"; done
}

make_database() { # make_database SERVER-OPTIONS
    from_env_or_file POSTGRES_USER postgres
    from_env_or_file POSTGRES_PASSWORD ''
    from_env_or_file POSTGRES_DB "$POSTGRES_USER"
    from_env_or_file POSTGRES_INITDB_ARGS ''
    method=${POSTGRES_HOST_AUTH_METHOD:-}
    [ -n "$POSTGRES_PASSWORD" ] || [ "$method" = trust ] || fail "POSTGRES_PASSWORD is empty: set the superuser's password"

    umask 077
    pwfile=$(mktemp)
    printf '%s\n' "$POSTGRES_PASSWORD" >"$pwfile"
    # The arguments come as one string, with quotes in it, as in the official image.
    eval "set_aside() { initdb --username=\"\$POSTGRES_USER\" --pwfile=\"\$pwfile\" \
        ${POSTGRES_INITDB_WALDIR:+--waldir=\"\$POSTGRES_INITDB_WALDIR\"} $POSTGRES_INITDB_ARGS; }"
    set_aside
    rm -f "$pwfile"
    umask 022
    printf '\nhost all all all %s\n' "${method:-$(postgres -C password_encryption "$@")}" >>"$PGDATA/pg_hba.conf"

    # On the socket only: nobody from outside may meet a half-made database. Through pg_ctl its log goes to stdout, and
    # the real server's to stderr: test libraries wait for "ready to accept connections" on both.
    export PGPASSWORD="${PGPASSWORD:-$POSTGRES_PASSWORD}"
    pg_ctl --wait --options "$(quoted "$@" -c listen_addresses=)" start
    if [ "$POSTGRES_DB" != postgres ]; then
        printf 'CREATE DATABASE :"db";\n' | sql --dbname postgres --set db="$POSTGRES_DB"
    fi
    for file in /docker-entrypoint-initdb.d/*; do
        case $file in
        *.sh)
            echo "$0: running $file"
            # shellcheck disable=SC1090
            if [ -x "$file" ]; then "$file"; else . "$file"; fi
            ;;
        *.sql) echo "$0: running $file" && sql --dbname "$POSTGRES_DB" --file "$file" ;;
        *.sql.gz) echo "$0: running $file" && gunzip -c "$file" | sql --dbname "$POSTGRES_DB" ;;
        *'/*') ;; # the folder is empty
        *) echo "$0: ignoring $file" ;;
        esac
    done
    pg_ctl --wait --mode fast stop
    unset PGPASSWORD
    printf '\nPostgreSQL init process complete; ready for start up.\n\n'
}

case ${1:-postgres} in -*) set -- postgres "$@" ;; esac
[ "${1:-}" = postgres ] || exec "$@"

if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" ${POSTGRES_INITDB_WALDIR:+"$POSTGRES_INITDB_WALDIR"}
    chmod 700 "$PGDATA"
    find "$PGDATA" /var/run/postgresql ${POSTGRES_INITDB_WALDIR:+"$POSTGRES_INITDB_WALDIR"} \
        ! -user postgres -exec chown postgres '{}' +
    exec setpriv --reuid postgres --regid postgres --init-groups "$0" "$@"
fi

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    mkdir -p "$PGDATA"
    (shift && make_database "$@")
fi
exec "$@"
