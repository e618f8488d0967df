# Everything about a host that a decision needs, in one go.  Reads only.
#   $1 the data directory; the rest: the paths that this project manages
data=$1
shift

put time "$(date +%s.%N)"
put machine "$(uname -m)"
put boot_id "$(cat /proc/sys/kernel/random/boot_id)" # tells two hosts from one host named twice
put systemd "$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')"
put user "$(id -u etcd 2>/dev/null)"

# Managed paths: kind, mode and owner, then digests and targets.  A path that is not there has no line.
stat --printf='stat\t%n\t%F\t%a\t%U:%G\n' -- "$@" 2>/dev/null
sha256sum -- "$@" 2>/dev/null | sed "s/^\([0-9a-f]*\)  /sha256$tab\1$tab/"
for path; do
    [ -L "$path" ] && put link "$path$tab$(readlink -- "$path")"
done
for path in /etc/etcd/etcd.conf /etc/etcd/identity.json; do
    [ -f "$path" ] && put "text$tab$path" "$(base64 -w0 <"$path")"
done
for path in /opt/etcd/*/archive.sha256; do
    [ -f "$path" ] && put release "$path$tab$(cat -- "$path")"
done

# The unit, and what the running process was really started with.
systemctl show etcd.service --property=ActiveState,SubState,Result,MainPID,NRestarts,UnitFileState,FragmentPath,NeedDaemonReload 2>/dev/null |
    sed "s/^\([A-Za-z]*\)=/unit$tab\1$tab/"
pid=$(systemctl show etcd.service --property=MainPID --value 2>/dev/null)
if [ "${pid:-0}" != 0 ]; then
    put exe "$(readlink "/proc/$pid/exe")"
    tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep '^ETCD' | blob environ
fi

# The data directory, and the room on the file systems that will hold it and the releases.
if [ -d "$data/member/wal" ]; then put data wal; elif [ -n "$(ls -A -- "$data" 2>/dev/null)" ]; then put data files; fi
for path in "$data" /opt/etcd; do
    dir=$path
    while [ ! -d "$dir" ]; do dir=$(dirname -- "$dir"); done
    put room "$path$tab$(stat -f -c '%a %S %T' -- "$dir")" # free blocks, block size, kind of file system
done

# Local addresses and listening sockets as the kernel lists them (no ip, ss or hostname is needed), and
# whose the sockets on etcd's three ports are.
put fib_trie "$(base64 -w0 </proc/net/fib_trie)"
put if_inet6 "$([ -f /proc/net/if_inet6 ] && base64 -w0 </proc/net/if_inet6)"
listening=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | sed -n 's/^ *[0-9]*: \([0-9A-F]*:09\(4B\|4C\|4D\)\) [0-9A-F:]* 0A \([^ ]* *\)\{5\}\([0-9]*\) .*/\1 \4/p')
printf '%s\n' "$listening" | while read -r socket inode; do
    [ -n "$inode" ] || continue
    owner=$(find /proc/[0-9]*/fd -maxdepth 1 -lname "socket:\[$inode\]" 2>/dev/null | sed -n '1s|^/proc/\([0-9]*\)/.*|\1|p')
    put listen "$socket$tab$owner$tab$([ -n "$owner" ] && cat "/proc/$owner/comm")"
done
