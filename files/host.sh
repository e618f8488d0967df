# Everything about a host that a decision needs, in one go.  Reads only, and spawns little: a deploy with nothing to
# do is hardly more than this.
#   $1 the data directory; the rest: the paths that this project manages
data=$1
shift

put time "$(date +%s.%N)"
put machine "$(uname -m)"
read -r boot_id </proc/sys/kernel/random/boot_id # tells two hosts from one host named twice
put boot_id "$boot_id"
version=$(systemctl --version 2>/dev/null) # systemd 252 (252.39-1~deb12u1) ...
version=${version#systemd }
put systemd "${version%%[!0-9]*}"
put user "$(id -u etcd 2>/dev/null)"

# Managed paths: kind, mode, owner and, of a link, target; then digests.  A path that is not there has no line.
QUOTING_STYLE=literal stat --printf='stat\t%N\t%F\t%a\t%U:%G\n' -- "$@" 2>/dev/null
files=
for path; do
    [ -L "$path" ] || [ ! -f "$path" ] || files="$files $path"
done
# shellcheck disable=SC2086 # managed paths have no spaces
[ -z "$files" ] || sha256sum -- $files | sed "s/^\([0-9a-f]*\)  /sha256$tab\1$tab/"
# What `inv adopt` found here and deploy has not taken over yet: another unit, and data and CAs in other places.
service=etcd.service held=$data ca=/etc/etcd/ssl/ca.pem peer_ca=/etc/etcd/ssl/peer-ca.pem
if [ -f /etc/etcd/adopted.conf ]; then
    adopted() { sed -n "s/^$1=//p" /etc/etcd/adopted.conf; }
    service=$(adopted UNIT)
    held=$(adopted DATA_DIR)
    [ -d "$held/member" ] || held=$data
    file=$(adopted TRUSTED_CA)
    [ ! -f "$file" ] || ca=$file
    file=$(adopted PEER_TRUSTED_CA)
    [ ! -f "$file" ] || peer_ca=$file
fi
# Texts; and local addresses as the kernel lists them: no ip or hostname is needed.
set --
for path in /proc/net/fib_trie /proc/net/if_inet6 /etc/etcd/etcd.conf /etc/etcd/identity.json /etc/etcd/adopted.conf; do
    [ ! -f "$path" ] || set -- "$@" "key=text$tab$path" "$path"
done
[ ! -f "$ca" ] || set -- "$@" "key=text$tab/etc/etcd/ssl/ca.pem" "$ca"
[ ! -f "$peer_ca" ] || set -- "$@" "key=text$tab/etc/etcd/ssl/peer-ca.pem" "$peer_ca"
lines "$@" || exit # less than all of it would be a lie
for path in /opt/etcd/*/archive.sha256; do
    [ -L "${path%/*}" ] || { [ -f "$path" ] && read -r digest <"$path" && put release "$path$tab$digest"; }
done

# The unit, and what the running process was really started with.
unit=$(systemctl show "$service" --property=ActiveState,MainPID,UnitFileState,FragmentPath,NeedDaemonReload 2>/dev/null)
main_pid= # for client.sh, too
while IFS='=' read -r key value; do
    put "unit$tab$key" "$value"
    [ "$key" = MainPID ] && main_pid=${value#0}
done <<EOF
$unit
EOF
open=
if [ -n "$main_pid" ]; then
    n=0
    # systemd has just made the process, which is about to become etcd, since systemd 255 by way of another program.
    while exe=$(readlink "/proc/$main_pid/exe") && [ $n -lt 40 ]; do
        case $exe in */etcd) break ;; "$(readlink /proc/1/exe)" | */systemd-executor) sleep 0.05 ;; *) break ;; esac
        n=$((n + 1))
    done
    put exe "$exe"
    started_with "$main_pid" ETCD "text${tab}environ"
    open=$(ls -l "/proc/$main_pid/fd" 2>/dev/null)
    if [ ! -e "/proc/$main_pid/exe" ]; then # it has ended meanwhile, as one does that cannot start
        main_pid=
        put "unit${tab}MainPID" 0
    fi
fi

# The data directory, and the room on the file systems that will hold it and the releases.
# A first start that was cut short has made no write-ahead log yet, and a database of four empty pages at most.
if [ -d "$held/member/wal" ]; then
    put data wal
elif [ -n "$(ls -A -- "$data" 2>/dev/null)" ]; then
    foreign=$(find "$data" -mindepth 1 ! -path "$data/member" ! -path "$data/member/snap" ! -name .touch \
        ! \( -path "$data/member/snap/db" -size -513 \) ! -path "$data/member/wal.tmp*" -print -quit)
    put data "$([ -n "$foreign" ] && echo files || echo unfinished)"
fi
[ ! -d "$data" ] || stat -c %d -- "$data" "$data/.." | {
    read -r own && read -r outside && [ "$own" != "$outside" ] && put mounted "$data"
}
[ ! -e /var/lib/etcd/restoring ] || { read -r id </var/lib/etcd/restoring && put restoring "$id"; }
for each in /var/lib/etcd/restore-*/swapping; do # its data is in place, and the old data not yet out of the way
    [ ! -e "$each" ] || { id=${each%/swapping} && put restoring "${id##*/restore-}"; }
done
set --
for dir in "$data" /opt/etcd; do
    while [ ! -d "$dir" ]; do dir=${dir%/*}/ dir=${dir%/} dir=${dir:-/}; done
    set -- "$@" "$dir"
done
stat -f --printf='%a %S\n' -- "$@" | for path in "$data" /opt/etcd; do # free blocks, block size
    read -r free && put room "$path$tab$free"
done

# Listening sockets as the kernel lists them (no ss is needed), and whose those on etcd's three ports (2379 to 2381,
# 094B to 094D) are.
listening=$(sed -n 's/^ *[0-9]*: \([0-9A-F]*:09\(4B\|4C\|4D\)\) [0-9A-F:]* 0A \([^ ]* *\)\{5\}\([0-9]*\) .*/\1 \4/p' /proc/net/tcp /proc/net/tcp6 2>/dev/null)
while read -r socket inode; do
    [ -n "$inode" ] || continue
    case $open in
    *"socket:[$inode]"*) owner=$main_pid ;;
    *) owner=$(find /proc/[0-9]*/fd -maxdepth 1 -lname "socket:\[$inode\]" 2>/dev/null | sed -n '1s|^/proc/\([0-9]*\)/.*|\1|p') ;;
    esac
    program=
    [ -n "$owner" ] && read -r program <"/proc/$owner/comm"
    put listen "$socket$tab$owner$tab$program"
done <<EOF
$listening
EOF
