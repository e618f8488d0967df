# Whether an etcd takes a configuration, without a start: it is given an address for its peers that nobody has, and ends
# there, after it has looked at all its settings and before it touches any data.
#   $1 its program; standard input is the etcd.conf
# Prints nothing when all is well, else what etcd said; a name that it does not know is but a warning to it.
set -u
umask 077
work=$(mktemp -d /run/etcdops.XXXXXXXX) || exit 1
trap 'rm -rf -- "$work"' EXIT
trap 'exit 129' HUP INT TERM PIPE
cat >"$work/etcd.conf"
(
    set -a
    # shellcheck source=/dev/null # a shell reads it as systemd does
    . "$work/etcd.conf"
    set +a
    exec env ETCD_DATA_DIR="$work/data" ETCD_LISTEN_PEER_URLS=http://192.0.2.1:2380 timeout -k 1 20 "$1" # RFC 5737
) >"$work/said" 2>&1
grep -q 'cannot assign requested address\|address already in use' "$work/said" || { tail -n 20 "$work/said" && exit; }
sed -n 's/.*\(unrecognized environment variable\)\(","environment-variable":"\| \)\([A-Z0-9_]*\).*/\1 \3/p' "$work/said"
