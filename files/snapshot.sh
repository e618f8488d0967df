# Takes a snapshot of this host's member, sends it, and proves it here meanwhile.
#   $1  l (linearizable): all that the cluster has acknowledged, which takes a quorum; s (serializable): what this member has
# Standard output is the snapshot and nothing else; KEY<tab>VALUE about it, or last words, are on standard error.
set -u
umask 077
tell() { printf '%s\t%s\n' "$1" "$2" >&2; }
give_up() { echo "$*" >&2 && exit 1; }
digest() { if command -v openssl >/dev/null; then openssl dgst -sha256 -r; else sha256sum; fi; } # it is three times as fast
last() { grep -v '^{' "$1" | tail -n 1; } # etcdctl logs JSON before it says what is wrong

[ "${pid:-0}" != 0 ] || give_up 'etcd does not run here'
status=$(client --command-timeout=5s endpoint status --write-out=json 2>/dev/null) || give_up 'etcd does not tell its status'
size=$(echo "$status" | number dbSize)
asked=$(client --command-timeout=10s get --consistency="$1" --write-out=json etcdops 2>&1) ||
    give_up "the member cannot read what the cluster has agreed on: $(echo "$asked" | grep -v '^{' | tail -n 1)"

# Not on etcd's own disk where another has the room: a full one stops the member.
need=$((${size:-0} + ${size:-0} / 10 + (64 << 20)))
place=
for dir in /var/tmp /var/lib/etcd; do
    [ -n "$place" ] || { [ "$(($(stat -f -c '%a * %S' -- "$dir")))" -lt "$need" ] || place=$dir; }
done
[ -n "$place" ] || give_up "no room for a snapshot of $((need >> 20)) MiB in /var/tmp or /var/lib/etcd"
find "$place" -maxdepth 1 -name '.etcdops-snapshot.*' -mmin +1440 -exec rm -rf -- {} + # of runs that were killed
work=$(mktemp -d "$place/.etcdops-snapshot.XXXXXXXX") || exit 1
saving=
trap '[ -z "$saving" ] || kill "$saving" 2>/dev/null; rm -rf -- "$work"' EXIT
trap 'exit 129' HUP INT TERM PIPE

# Watched, since etcdctl waits for ever for an etcd that has ended: two minutes without a byte; or 15, once it has all
# and brings it to the disk, which may be slow.
$CLIENT snapshot save "$work/db" >"$work/said" 2>&1 &
saving=$! had='' still=0
while kill -0 "$saving" 2>/dev/null; do
    sleep 0.05
    kill -0 "$pid" 2>/dev/null || give_up 'etcd ended before it had given the snapshot'
    has=$(stat -c %s -- "$work/db.part" 2>/dev/null)
    [ "$has" = "$had" ] || still=0
    had=$has still=$((still + 1))
    patience=2400
    [ "${has:-0}" -lt "${size:-0}" ] || patience=18000
    [ $still -lt $patience ] || give_up "etcd stopped giving the snapshot after ${has:-0} bytes"
done
wait "$saving" || give_up "etcd did not give the snapshot: $(last "$work/said")"
saving=
size=$(stat -c %s -- "$work/db")
[ $((size % 512)) = 32 ] || give_up "the snapshot has $size bytes, which is no multiple of 512 and the 32 of its digest"

# While it is sent: its digest, its structure, and what the live cluster has at its revision, with which a drill compares
# (unless a compaction comes in between).
etcdutl=etcdutl
command -v etcdutl >/dev/null || etcdutl=etcdctl
examine() {
    head --bytes=-32 "$work/db" | digest >"$work/sum" &
    $etcdutl snapshot status "$work/db" --write-out=json >"$work/found" 2>"$work/said" || return
    revision=$(number revision <"$work/found")
    # It does not count deletions that are compacted.
    known=$(echo "$asked" | number revision)
    [ "$revision" -ge "$known" ] || revision=$known
    echo "$revision" >"$work/revision"
    client --command-timeout=60s get '' --prefix --count-only --rev="$revision" --write-out=fields >"$work/keys" 2>&1
    client --command-timeout=60s endpoint hashkv --rev="$revision" --write-out=json >"$work/hash" 2>&1
    wait
}
examine &
cat -- "$work/db" || exit 1
wait
read -r sum _ <"$work/sum"
[ "$sum" = "$(tail --bytes=32 "$work/db" | od -An -v -tx1 | tr -d ' \n')" ] ||
    give_up 'the snapshot is damaged here already: its digest is not that of its content'
[ -s "$work/keys" ] || give_up "the snapshot cannot be read: $(last "$work/said")"
tell size "$size"
tell asked "$(echo "$asked" | number revision)"
tell revision "$(cat -- "$work/revision")"
tell token "$(started ETCD_INITIAL_CLUSTER_TOKEN)"
tell cluster_id "$(echo "$status" | number cluster_id)"
tell member_id "$(echo "$status" | number member_id)"
tell version "$(echo "$status" | sed -n 's/.*"version":"\([^"]*\)".*/\1/p')"
tell members "$(client --command-timeout=5s member list --write-out=json 2>/dev/null | base64 -w0)"
tell keys "$(sed -n 's/^"Count" : //p' "$work/keys")"
tell hash "$(base64 -w0 <"$work/hash")"
