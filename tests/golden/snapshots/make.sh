#!/bin/sh
# Makes the snapshots of this folder anew: make.sh FOLDER, which holds the programs of each release in FOLDER/VERSION.
# Beside each file: what etcd's own tools say of it.
set -eu
folder=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
etcd=
trap 'kill $etcd 2>/dev/null || :; rm -rf "$work"' EXIT
client=http://127.0.0.1:23790
peer=http://127.0.0.1:23791

start() { # NAME TOKEN: a member of a cluster of one
    "$bin/etcd" --name "$1" --data-dir "$work/$2" --initial-cluster "$1=$peer" --initial-cluster-token "$2" \
        --listen-client-urls $client --advertise-client-urls $client \
        --listen-peer-urls $peer --initial-advertise-peer-urls $peer >"$work/log" 2>&1 &
    etcd=$!
    tries=0
    until ctl get /x >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || { cat "$work/log"; exit 1; }
        sleep 0.1
    done
}

ctl() {
    if [ "$release" = 3.4.23 ]; then
        ETCDCTL_API=3 "$bin/etcdctl" --endpoints $client "$@"
    else
        "$bin/etcdctl" --endpoints $client "$@"
    fi
}

fill() { # keys in several pages, some changed, some deleted, and history that compaction has removed
    for key in $(seq -w 1 "$1"); do
        ctl put "/registry/pods/default/pod-$key" "$(printf '%0400d' "$((1$key))")" >/dev/null
    done
    ctl del --prefix /registry/pods/default/pod-1 >/dev/null
    ctl put /registry/pods/default/pod-01 back >/dev/null
}

compact() { # to the revision of now, until etcd has done so
    ctl compact "$(ctl get /x -w json | sed 's/.*"revision":\([0-9]*\).*/\1/')" --physical >/dev/null
}

save() { # FILE: a snapshot, and what the tools say of it
    keys=$(ctl get '' --prefix --keys-only | grep -c .)
    head=$(ctl get /x -w json)
    ctl snapshot save "$work/$1" >/dev/null 2>&1
    if [ "$release" = 3.4.23 ]; then
        status=$(ctl snapshot status "$work/$1" -w json)
    else
        status=$("$bin/etcdutl" snapshot status "$work/$1" -w json)
    fi
    printf '{"release": "%s", "header": %s, "keys": %s, "status": %s}\n' "$release" "$head" "$keys" "$status" >"$here/$1.json"
    gzip -9nc "$work/$1" >"$here/$1.gz"
}

stop() {
    kill "$etcd"
    wait "$etcd" 2>/dev/null || :
}

for release in 3.4.23 3.5.30 3.6.16 3.7.3; do
    bin=$folder/$release
    start etcd01 "a-$release"
    fill 30
    compact
    ctl put /after compaction >/dev/null
    ctl put /registry/pods/default/pod-30 changed >/dev/null
    ctl del /registry/pods/default/pod-29 >/dev/null
    save "$release.db"
    stop
done

start etcd01 other # the same names and addresses, and another cluster
fill 3
save other.db
stop

for release in 3.4.23 3.7.3; do
    bin=$folder/$release
    start etcd01 "deleted-$release" # the newest revision is a deletion that compaction has removed
    ctl put /a 1 >/dev/null
    ctl put /b 1 >/dev/null
    ctl del /b >/dev/null
    compact
    save "deleted-$release.db"
    stop
done

start etcd01 large # values that run over many pages, a bucket of its own depth, authentication
for key in 1 2 3; do
    head -c 1200000 /dev/zero | tr '\0' "$key" | ctl put "/large/$key" >/dev/null
done
ctl user add root --new-user-password=root >/dev/null
ctl user grant-role root root >/dev/null
ctl auth enable >/dev/null
ETCDCTL_USER=root:root
export ETCDCTL_USER
save large.db
stop
