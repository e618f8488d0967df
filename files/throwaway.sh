# A throw-away etcd of one member on loopback, for a drill or to save what a dead member holds.
#   $programs  folder of etcd's programs   $work  a private folder   $seconds  that it may take to start
# Standard input begins with its certificates (etcdops/snapshots/throwaway.py): with them we are root, whatever users the
# data brings.  It is killed, and $work deleted, when the script ends.
set -u
umask 077
work=
number() { sed -n "s/.*\"$1\":\([0-9][0-9]*\).*/\1/p"; } # of a JSON document on standard input
last() { grep -v '^{' "$1" | tail -n 1; } # etcd's tools log JSON before they say what is wrong
give_up() { echo "$*" >&2 && exit 1; }
etcd=
end() {
    if [ -n "$etcd" ]; then kill -9 "$etcd" && wait "$etcd"; fi 2>/dev/null
    [ -z "$work" ] || rm -rf -- "$work"
}
trap end EXIT
trap 'exit 129' HUP INT TERM PIPE
IFS= read -r ca || give_up 'no certificates came for the throw-away etcd'
IFS= read -r pair || give_up 'no certificates came for the throw-away etcd'

# Starts it on $work/data, with further flags; $url is where it serves then.
throwaway() {
    echo "$ca" | base64 -d >"$work/ca.pem" && echo "$pair" | base64 -d >"$work/pair.pem" || exit 1
    tries=0
    while :; do # a port may be taken, and nobody can reserve one: two others then
        port=$((20000 + ($(od -An -N2 -tu2 /dev/urandom)) % 12000 * 2))
        url=https://127.0.0.1:$port
        nice "$programs/etcd" --data-dir "$work/data" --listen-client-urls "$url" --advertise-client-urls "$url" \
            --listen-peer-urls "http://127.0.0.1:$((port + 1))" --initial-advertise-peer-urls http://127.0.0.1:1 \
            --cert-file "$work/pair.pem" --key-file "$work/pair.pem" --trusted-ca-file "$work/ca.pem" --client-cert-auth \
            --quota-backend-bytes 107374182400 --log-outputs stderr --logger zap "$@" >"$work/said" 2>&1 &
        etcd=$!
        began=$(date +%s)
        until client --command-timeout=2s endpoint status --write-out=json >"$work/status" 2>/dev/null; do
            kill -0 "$etcd" 2>/dev/null || break
            [ $(($(date +%s) - began)) -lt "$seconds" ] || give_up "the throw-away etcd is not ready after $seconds s"
            sleep 0.1
        done
        [ ! -s "$work/status" ] || return 0
        wait "$etcd"
        etcd=
        tries=$((tries + 1))
        if ! grep -q 'address already in use' "$work/said" || [ $tries = 5 ]; then
            give_up "the throw-away etcd does not start: $(sed -n 's/.*"level":"\(fatal\|panic\|error\)".*"msg":"\([^"]*\)".*/\2/p' "$work/said" | tail -n 1)"
        fi
    done
}
client() { "$programs/etcdctl" --endpoints "$url" --cacert "$work/ca.pem" --cert "$work/pair.pem" --key "$work/pair.pem" "$@"; }
ask() { client --command-timeout=60s "$@" 2>/dev/null; }
