# Saves what a stopped member holds, with what is only in its write-ahead log, as a snapshot; its data is not touched.
# A copy of it is started as a throw-away cluster of its own (throwaway.sh), which takes all that it has for agreed on.
#   $1  seconds that it may take to start   $2  bytes of its last log file that count
#   $3  what to append there, in octal escapes: that all before it is agreed on (see etcdops/snapshots/wal.py)
# Standard output is the snapshot; KEY<tab>VALUE about it, or last words, are on standard error (as of snapshot.sh).
tell() { printf '%s\t%s\n' "$1" "$2" >&2; }
programs=/opt/etcd/current seconds=$1 home=/var/lib/etcd
data=$home/default.etcd
for each in "$home"/.etcdops-salvage.*; do # of runs that were killed: a copy is large
    [ ! -d "$each" ] || kill -0 "${each##*.}" 2>/dev/null || rm -rf -- "$each"
done
mkdir -- "$home/.etcdops-salvage.$$" && work=$home/.etcdops-salvage.$$ || exit 1

[ "$(systemctl show etcd.service --property=MainPID --value)" = 0 ] || give_up 'etcd runs'
[ -d "$data/member/wal" ] || give_up "there is no data in $data"
size=$(du -s -B1 "$data" | cut -f1)
free=$(($(stat -f -c '%a * %S' -- "$home")))
[ "$free" -gt $((size * 2)) ] || give_up "$((free >> 20)) MiB free for $home, $((size * 2 >> 20)) MiB needed for a copy and a snapshot"
cp -a --reflink=auto -- "$data" "$work/data" || give_up 'the data cannot be copied'
for log in "$work"/data/member/wal/*.wal; do :; done # the last
length=$(stat -c %s -- "$log")
# shellcheck disable=SC2059,SC2015 # the escapes are the format
{ truncate -s "$2" -- "$log" && printf "$3" >>"$log" && truncate -s ">$length" -- "$log"; } ||
    give_up 'the copy cannot be written'
throwaway --name salvage --force-new-cluster
client snapshot save "$work/db" >"$work/said" 2>&1 ||
    give_up "the copy does not give a snapshot: $(last "$work/said")"
revision=$(number revision <"$work/status")
cat -- "$work/db" || exit 1
tell size "$(stat -c %s -- "$work/db")"
tell asked 0
tell revision "$revision"
tell token "$(sed -n 's/^ETCD_INITIAL_CLUSTER_TOKEN="\(.*\)"$/\1/p' /etc/etcd/etcd.conf)"
tell cluster_id "$(number cluster_id <"$work/status")"
tell member_id "$(number member_id <"$work/status")"
tell version "$(sed -n 's/.*"version":"\([^"]*\)".*/\1/p' "$work/status")"
tell members ''
tell keys "$(ask get '' --prefix --count-only --rev="$revision" --write-out=fields | sed -n 's/^"Count" : //p')"
tell hash "$(ask endpoint hashkv --rev="$revision" --write-out=json | base64 -w0)"
