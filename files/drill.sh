# Restores a snapshot into a throw-away etcd of one member, on loopback and out of the way, and tells what it holds.
#   $1  folder of the programs of etcd   $2  the snapshot   $3  a folder with room for as much again
#   $4  seconds that it may take to start   $5  revision to hash at   $6  --skip-hash-check, for a raw database
# Prints KEY<tab>VALUE; everything that it made is gone afterwards.
set -u
umask 077
tell() { printf '%s\t%s\n' "$1" "$2"; }
number() { sed -n "s/.*\"$1\":\([0-9][0-9]*\).*/\1/p"; }
last() { grep -v '^{' "$1" | tail -n 1; }
programs=$1 snapshot=$2 folder=$3 seconds=$4 revision=$5
shift 5
work=$(mktemp -d "$folder/drill.XXXXXXXX") || exit 1
etcd=
end() {
    if [ -n "$etcd" ]; then kill -9 "$etcd" && wait "$etcd"; fi 2>/dev/null
    rm -rf -- "$work"
}
trap end EXIT
trap 'exit 129' HUP INT TERM PIPE
give_up() { echo "$*" >&2 && exit 1; }

restore=$programs/etcdutl
[ -x "$restore" ] || restore=$programs/etcdctl
nice "$restore" snapshot restore "$snapshot" "$@" --data-dir "$work/data" --name drill --initial-cluster-token "drill-$$" \
    --initial-cluster drill=http://127.0.0.1:1 --initial-advertise-peer-urls http://127.0.0.1:1 >"$work/said" 2>&1 ||
    give_up "etcd refuses to restore it: $(last "$work/said")"

# A port may be taken, and nobody can reserve one: two others then.
tries=0
while :; do
    port=$((20000 + ($(od -An -N2 -tu2 /dev/urandom)) % 12000 * 2))
    url=http://127.0.0.1:$port
    nice "$programs/etcd" --name drill --data-dir "$work/data" --listen-client-urls "$url" --advertise-client-urls "$url" \
        --listen-peer-urls "http://127.0.0.1:$((port + 1))" --initial-advertise-peer-urls http://127.0.0.1:1 \
        --initial-cluster drill=http://127.0.0.1:1 --quota-backend-bytes 107374182400 --log-outputs stderr --logger zap \
        >"$work/said" 2>&1 &
    etcd=$!
    waited=0
    until "$programs/etcdctl" --endpoints "$url" --command-timeout=2s endpoint status --write-out=json >"$work/status" 2>/dev/null; do
        kill -0 "$etcd" 2>/dev/null || break
        [ $waited -lt $((seconds * 10)) ] || give_up "the restored etcd is not ready after $seconds s"
        sleep 0.1
        waited=$((waited + 1))
    done
    [ ! -s "$work/status" ] || break
    wait "$etcd"
    etcd=
    tries=$((tries + 1))
    if ! grep -q 'address already in use' "$work/said" || [ $tries = 5 ]; then
        give_up "the restored etcd does not start: $(sed -n 's/.*"level":"\(fatal\|panic\|error\)".*"msg":"\([^"]*\)".*/\2/p' "$work/said" | tail -n 1)"
    fi
done

ask() { "$programs/etcdctl" --endpoints "$url" --command-timeout=60s "$@" 2>/dev/null; }
tell revision "$(number revision <"$work/status")"
tell version "$(sed -n 's/.*"version":"\([^"]*\)".*/\1/p' "$work/status")"
tell keys "$(ask get '' --prefix --count-only --write-out=fields | sed -n 's/^"Count" : //p')"
tell hash "$(ask endpoint hashkv --rev="$revision" --write-out=json | base64 -w0)"
