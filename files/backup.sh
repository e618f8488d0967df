#!/bin/sh
# Written by etcdops: what etcdops-backup.service runs, with its settings.  inv snapshot.schedule replaces it.
# One member makes the backup, the others end at once: they take turns, and the leader stands in for a member that
# does not answer.  Reads only: a lock in etcd would be a key of its own, and none can be written when the quota is full.
set -u
umask 077
export LC_ALL=C

pass() { echo "no backup by this member: $*"; exit 0; }
fail() { echo "backup failed: $*" >&2; exit 1; }
field() { sed -n "s/^\"$1\" : \"\{0,1\}\([^\"]*\).*/\1/p" | head -n 1; } # of etcdctl's --write-out=fields
json() { printf '%s\n' "$1" | sed 's/[\\"]/\\&/g; s/.*/"&"/'; }
list() { [ -z "$1" ] || printf '%s\n' "$1" | sed 's/[\\"]/\\&/g; s/,/", "/g; s/.*/"&"/'; }
last() { grep -v '^{' "$1" | tail -n 1; } # etcdctl logs JSON before it says what is wrong

# Who has the turn: the voters in the order of their ids, the next one in each period.  The clocks of the members need
# to agree within half a period only.
status=$(etcdctl endpoint status --write-out=fields 2>/dev/null) || pass 'its etcd does not answer'
me=$(printf %x "$(echo "$status" | field MemberID)")
leader=$(printf %x "$(echo "$status" | field Leader)")
[ "$leader" != 0 ] || pass 'it knows of no leader'
members=$(etcdctl member list 2>/dev/null) || pass 'it cannot tell who the members are'
members=$(printf '%s\n' "$members" | sed 's/, /|/g' | sort)
voters=0
learner=
while IFS='|' read -r id state name _ _ is_learner; do
    [ "$id" != "$me" ] || member=$name learner=$is_learner
    [ "$state$is_learner" != startedfalse ] || voters=$((voters + 1))
done <<END
$members
END
[ "${learner:-true}" = false ] || pass 'it is a learner'
now=$(date +%s)
period=$(((now - ETCDOPS_OFFSET + ETCDOPS_EVERY / 2) / ETCDOPS_EVERY))
left=$((period % voters))
while IFS='|' read -r id state name _ urls is_learner; do
    [ "$state$is_learner" = startedfalse ] || continue
    [ $left != 0 ] || turn=$id turn_name=$name turn_urls=$urls
    left=$((left - 1))
done <<END
$members
END
if [ "$turn" != "$me" ]; then
    [ "$leader" = "$me" ] || pass "it is $turn_name's turn"
    turn_url=${turn_urls%%,*} # it may speak http and https; authentication may want a certificate
    for url in $(echo "$turn_urls" | tr , ' '); do
        case $url in "${ETCDCTL_ENDPOINTS%%:*}":*) turn_url=$url ;; esac
    done
    # Not `endpoint health`: that says no under an alarm such as NOSPACE, too.
    ! ETCDCTL_ENDPOINTS=$turn_url timeout 15 etcdctl get etcdops --keys-only >/dev/null 2>&1 || pass "it is $turn_name's turn"
    echo "$turn_name, whose turn it is, does not answer: its leader stands in"
fi

# What must not be older than what the cluster has acknowledged.  An election may be going on.
agreed() { etcdctl get etcdops --keys-only --write-out=fields 2>/dev/null | field Revision; }
asked=
for pause in 2 2 0; do
    asked=$(agreed)
    [ -z "$asked" ] || break
    sleep $pause
done
[ -n "$asked" ] || fail 'this member cannot read what the cluster has agreed on: it is without a quorum'
# Nothing else stops under this alarm: backups of what is damaged would push out the good ones.
alarms=$(etcdctl endpoint status --write-out=fields 2>/dev/null) || fail 'its etcd does not answer any more'
case $(echo "$alarms" | grep '^"Errors"') in
*alarm:CORRUPT*) fail 'the alarm CORRUPT is on: its members differ, and the backups stay as they are; inv status' ;;
esac

dir=$ETCDOPS_DIR
[ -d "$dir" ] || fail "$dir is not there"
exec 9<"$dir" || exit 1
flock -n 9 || fail 'another one is under way'
work=$dir/.part
file=
clean() { rm -rf -- "$work" && { [ -z "$file" ] || rm -f -- "$file"; }; }
trap clean EXIT
trap 'exit 143' HUP INT TERM
rm -rf -- "$work" # of a run that was killed
mkdir -- "$work" || fail "nothing can be written to $dir"

# The newest $1 stay, and the one just made.  What was not written here has no such name, or no manifest beside it, and
# is neither counted nor removed; nor is what is dated in the future, where a clock is or was wrong, nor the newest of
# an id that the cluster had before: it may have been built anew, empty, and that is what was in it.
name=
cluster_id=$(printf %x "$(echo "$status" | field ClusterID)")
today=$(date -u -d "@$now" +%Y%m%d%H%M%S)
prune() {
    left=$1
    ids=" $cluster_id "
    set -- # newest first
    for path in "$dir/$ETCDOPS_CLUSTER"-[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]T[0-9][0-9][0-9][0-9][0-9][0-9]Z-r[0-9]*.json; do
        base=${path%.json}
        case ${base##*Z-r} in *[!0-9]*) continue ;; esac
        taken=${base%Z-r*}
        taken=${taken##*-}
        [ "${taken%T*}${taken#*T}" -le "$today" ] || continue
        [ ! -f "$base.db" ] || [ "$base" = "$dir/$name" ] || set -- "$base" "$@"
    done
    for base; do
        id=$(sed -n 's/^ *"cluster_id": "\(.*\)",$/\1/p' "$base.json")
        case $ids in *" ${id:-$cluster_id} "*) ;; *) ids="$ids$id " && continue ;; esac
        [ $((left -= 1)) -lt 0 ] || continue
        rm -f -- "$base.json" && rm -f -- "$base.db" && echo "removed ${base##*/}: the newest $ETCDOPS_KEEP stay" || :
    done
}
prune "$ETCDOPS_KEEP" # a keep that was lowered since makes the room that it was lowered for

size=$(echo "$status" | field DBSize)
need=$((size + size / 10 + (16 << 20)))
own_disk=
if [ "$(stat -c %d -- "$dir")" = "$(stat -c %d /var/lib/etcd 2>/dev/null)" ]; then
    # A full disk stops the member: it must have room to grow, and to be defragmented.
    need=$((need + size + (1 << 30)))
    own_disk=' as etcd itself has its data on that disk; set backup.schedule.dir to another one, or a smaller keep'
fi
free=$(($(stat -f -c '%a * %S' -- "$dir")))
[ $free -ge $need ] || fail "no room in $dir: $((free >> 20)) MiB free, $((need >> 20)) MiB needed$own_disk"

etcdctl snapshot save "$work/db" >"$work/said" 2>&1 || fail "etcd did not give the snapshot: $(last "$work/said")"
size=$(stat -c %s -- "$work/db")
[ $((size % 512)) = 32 ] || fail "the snapshot has $size bytes, which is no multiple of 512 and the 32 of its digest"
sum=$(head --bytes=-32 -- "$work/db" | sha256sum)
[ "${sum%% *}" = "$(tail --bytes=32 -- "$work/db" | od -An -v -tx1 | tr -d ' \n')" ] ||
    fail 'the snapshot arrived damaged: its digest is not that of its content'
etcdutl=etcdutl
command -v etcdutl >/dev/null || etcdutl=etcdctl # 3.4
found=$($etcdutl snapshot status "$work/db" --write-out=fields 2>"$work/said") ||
    fail "the snapshot cannot be read: $(last "$work/said")"
revision=$(echo "$found" | field Revision)
if [ "${revision:-0}" -lt "$asked" ]; then
    # Compaction may have removed the newest revisions, if they were deletions: then nothing was written since, either.
    [ "$(agreed)" = "$asked" ] || fail "the snapshot is of revision ${revision:-0}, and the cluster was at $asked before"
    revision=$asked
fi
keys=$(etcdctl get '' --prefix --count-only --consistency=s --rev="$revision" --write-out=fields 2>/dev/null | field Count)
sum=$(sha256sum <"$work/db")
sum=${sum%% *}
name=$ETCDOPS_CLUSTER-$(date -u -d "@$now" +%Y%m%dT%H%M%SZ)-r$revision

# The manifest, as `inv backup` writes it.  No hash: for that etcd would read all of its database once more.
{
    echo '{'
    echo '  "format": 1,'
    echo '  "purpose": "backup",'
    echo "  \"cluster\": $(json "$ETCDOPS_CLUSTER"),"
    echo "  \"cluster_id\": \"$cluster_id\","
    echo "  \"token\": $(json "$(sed -n 's/^ETCD_INITIAL_CLUSTER_TOKEN="\(.*\)"$/\1/p' /etc/etcd/etcd.conf 2>/dev/null)"),"
    echo "  \"member\": $(json "$member"),"
    echo "  \"member_id\": \"$me\","
    echo "  \"etcd_version\": $(json "$(echo "$status" | field Version)"),"
    echo "  \"taken\": \"$(date -u -d "@$now" +%Y-%m-%dT%H:%M:%SZ)\","
    echo "  \"revision\": $revision,"
    echo "  \"keys\": ${keys:-null},"
    echo '  "hash": null,'
    echo '  "compact_revision": null,'
    echo '  "members": ['
    comma=
    while IFS='|' read -r id _ name_ peers clients is_learner; do
        [ -z "$comma" ] || echo ','
        comma=1
        printf '    {"id": "%s", "name": %s, "peer_urls": [%s], "client_urls": [%s], "learner": %s}' \
            "$id" "$(json "$name_")" "$(list "$peers")" "$(list "$clients")" "$is_learner"
    done <<END
$members
END
    echo
    echo '  ],'
    echo "  \"size\": $size,"
    echo "  \"sha256\": \"$sum\","
    echo "  \"tool_version\": $(json "$ETCDOPS_VERSION"),"
    echo '  "encrypted": false,'
    echo "  \"stored_size\": $size,"
    echo "  \"stored_sha256\": \"$sum\""
    echo '}'
} >"$work/json" || fail 'its manifest cannot be written'

# The manifest last: what has none is no backup.
sync -- "$work/db" "$work/json" || exit 1
file=$dir/$name.db
mv -fT -- "$work/db" "$file" && mv -fT -- "$work/json" "$dir/$name.json" || exit 1
file=
sync -- "$dir"
echo "backup $name: $size bytes, in $(($(date +%s) - now)) s"

prune $((ETCDOPS_KEEP - 1)) # never the one just made, whatever the clock says
