# Ends a cluster: stops its servers, removes its folder. It runs as `sh -c`, with the folder in MAINSTEM_FOLDER, as the
# user that the servers run as, and waits until the process that started it is gone: then its standard input ends.
# The folder comes in the environment because the arguments of a process are what `ps` shows, and this script looks
# there for the folder's name.

trap '' HUP INT QUIT TERM PIPE
cd /
while read -r _; do :; done
folder=$MAINSTEM_FOLDER

# The processes that work in the folder. By their working folder where /proc tells: that finds also the children of a
# server that is dead already. Otherwise by command line and parent.
members() {
    if [ -e /proc/self/cwd ]; then
        for process in /proc/[0-9]*; do
            for place in "$folder"/* "$folder"/*/data; do
                # Every shell in use has -ef, and a child per process and folder would take seconds.
                # shellcheck disable=SC3013
                if [ "$process/cwd" -ef "$place" ]; then
                    echo "${process#/proc/}"
                    break
                fi
            done
        done
    else
        ps -A -o pid= -o ppid= -o command= | awk '
            index($0, ENVIRON["MAINSTEM_FOLDER"]) { found[$1] = 1 }
            { parent[$1] = $2 }
            END { for (pid in parent) if (pid in found || parent[pid] in found) print pid }'
    fi
}

# Sends a signal to all members; fails if there are none.
signal() {
    pids=$(members)
    [ -n "$pids" ] || return 1
    for pid in $pids; do kill -s "$1" "$pid" 2>/dev/null; done
}

# An immediate shutdown first: a killed server leaves its System V shared memory behind, and a machine has only so
# much of that. Frozen processes cannot obey.
signal CONT
for file in "$folder"/*/data/postmaster.pid; do
    [ -e "$file" ] || continue
    read -r postmaster <"$file" || continue
    # The file of a server that was killed names a process that may be somebody else's by now.
    for pid in $(members); do
        [ "$pid" = "$postmaster" ] && kill -s QUIT "$pid" 2>/dev/null
    done
done
tries=0
while [ "$tries" -lt 60 ] && [ -n "$(members)" ]; do
    sleep 0.02
    tries=$((tries + 1))
done
tries=0
while [ "$tries" -lt 500 ] && signal KILL; do
    sleep 0.02
    tries=$((tries + 1))
done

# Line 7 of what a killed server leaves: key and id of its shared memory.
for file in "$folder"/*/data/postmaster.pid; do
    [ -e "$file" ] || continue
    id=$(sed -n '7s/^ *[0-9]*  *\([0-9]*\) *$/\1/p' "$file")
    [ -n "$id" ] && ipcrm -m "$id" 2>/dev/null
done

tries=0
while [ "$tries" -lt 100 ] && ! rm -rf "$folder" 2>/dev/null; do
    sleep 0.02
    tries=$((tries + 1))
done
