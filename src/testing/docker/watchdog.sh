# Removes what a cluster has in the Docker engine. It runs as `sh -c`, with the cluster's id in MAINSTEM_CLUSTER and its
# network in MAINSTEM_NETWORK, and waits until the process that started it is gone: then its standard input ends.

trap '' HUP INT QUIT TERM PIPE
cd /
while read -r _; do :; done
# Twice: the engine may still be at what the process had asked it for.
for pause in 0 3; do
    sleep "$pause"
    for container in $(docker ps --all --quiet --filter "label=mainstem.cluster=$MAINSTEM_CLUSTER"); do
        docker rm --force --volumes "$container"
    done
    docker network rm "$MAINSTEM_NETWORK"
done
