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

# In memory, where that takes no more than a quarter of what is free: in a minute it is gone, and etcd has the disk to
# itself.  Else on a disk, and not on etcd's own where another has the room: a full one stops the member.
need=$((${size:-0} + ${size:-0} / 10 + (64 << 20)))
memory=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB$/\1/p' /proc/meminfo)
places='/var/tmp /var/lib/etcd'
[ "$need" -gt $((${memory:-0} * 256)) ] || [ ! -d /dev/shm ] || places="/dev/shm $places"
place=
for dir in $places; do
    [ -n "$place" ] || { [ "$(($(stat -f -c '%a * %S' -- "$dir")))" -lt "$need" ] || place=$dir; }
done
[ -n "$place" ] || give_up "no room for a snapshot of $((need >> 20)) MiB in /var/tmp or /var/lib/etcd"
find /dev/shm /var/tmp /var/lib/etcd -maxdepth 1 -name '.etcdops-snapshot.*' -mmin +90 \
    -exec rm -rf -- {} + 2>/dev/null # of runs that were killed: none takes longer than an hour
work=$(mktemp -d "$place/.etcdops-snapshot.XXXXXXXX") || exit 1
saving=
trap '[ -z "$saving" ] || kill "$saving" 2>/dev/null; rm -rf -- "$work"' EXIT
trap 'exit 129' HUP INT TERM PIPE

# It is sent and summed up as it comes, all but the last 32 bytes, which are etcd's digest of the rest; what has gone is
# taken out of the file, and hardly gets to a disk.  And watched, since etcdctl waits for ever for an etcd that has ended:
# two minutes without a byte; or 15, once it has all and waits for the disk, which may be slow.  On one processor: the
# others are for etcd, and it takes less of it.
mkfifo "$work/sum" || exit 1
digest <"$work/sum" >"$work/digest" &
summing=$!
exec 3<>"$work/db.part" 4>"$work/sum" # the file keeps its name only until it is whole
client --command-timeout=5s member list --write-out=json >"$work/members" 2>/dev/null 3<&- 4>&- &
listing=$!
GOMAXPROCS=1 $CLIENT snapshot save "$work/db" >"$work/said" 2>&1 3<&- 4>&- &
saving=$! sent=0 still=0
piece() { dd if=/dev/fd/3 bs=128K iflag=skip_bytes,count_bytes skip="$sent" count="$new" status=none; }
pass_on() { # all that has come
    has=$(stat -L -c %s /dev/fd/3)
    new=$((has - 32 - sent))
    [ $new -gt 0 ] || return 0
    still=0
    piece >&4 &
    piece && wait $! || exit 1
    sent=$((sent + new))
    fallocate --punch-hole --offset=0 --length=$sent /dev/fd/3 2>/dev/null # not every file system can
}
while kill -0 "$saving" 2>/dev/null; do
    sleep 0.05
    kill -0 "$pid" 2>/dev/null || give_up 'etcd ended before it had given the snapshot'
    still=$((still + 1))
    pass_on
    patience=2400
    [ "$has" -lt "${size:-0}" ] || patience=18000
    [ $still -lt $patience ] || give_up "etcd stopped giving the snapshot after $has bytes"
done
wait "$saving" || give_up "etcd did not give the snapshot: $(last "$work/said")"
saving=
pass_on
exec 4>&-
size=$has new=$((has - sent))
piece || exit 1
tell size "$size" # from here on it is proven on the other end, too
[ $((size % 512)) = 32 ] || give_up "the snapshot has $size bytes, which is no multiple of 512 and the 32 of its digest"
end=$(piece | od -An -v -tx1 | tr -d ' \n')
wait "$summing"
read -r sum _ <"$work/digest"
[ "$sum" = "$end" ] || give_up 'the snapshot is damaged here already: its digest is not that of its content'
wait "$listing"
tell asked "$(echo "$asked" | number revision)"
tell token "$(started ETCD_INITIAL_CLUSTER_TOKEN)"
tell cluster_id "$(echo "$status" | number cluster_id)"
tell member_id "$(echo "$status" | number member_id)"
tell version "$(echo "$status" | sed -n 's/.*"version":"\([^"]*\)".*/\1/p')"
tell members "$(base64 -w0 <"$work/members")"
