# Restores a snapshot into a throw-away etcd (throwaway.sh) and tells what it holds.
#   $1  folder of the programs of etcd   $2  the snapshot   $3  a folder with room for as much again
#   $4  seconds that it may take to start   $5  revision to hash at   $6  --skip-hash-check, for a raw database
# Prints KEY<tab>VALUE; everything that it made is gone afterwards.
tell() { printf '%s\t%s\n' "$1" "$2"; }
programs=$1 snapshot=$2 seconds=$4 revision=$5
work=$(mktemp -d "$3/drill.XXXXXXXX") || exit 1
shift 5

restore=$programs/etcdutl
[ -x "$restore" ] || restore=$programs/etcdctl
nice "$restore" snapshot restore "$snapshot" "$@" --data-dir "$work/data" --name drill --initial-cluster-token "drill-$$" \
    --initial-cluster drill=http://127.0.0.1:1 --initial-advertise-peer-urls http://127.0.0.1:1 >"$work/said" 2>&1 ||
    give_up "etcd refuses to restore it: $(last "$work/said")"
throwaway --name drill --initial-cluster drill=http://127.0.0.1:1
tell revision "$(number revision <"$work/status")"
tell keys "$(ask get '' --prefix --count-only --write-out=fields | sed -n 's/^"Count" : //p')"
tell hash "$(ask endpoint hashkv --rev="$revision" --write-out=json | base64 -w0)"
