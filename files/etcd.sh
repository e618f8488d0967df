# What the etcd on this host says of itself and its cluster, asked through its own endpoint.
#   QUERIES  any of: health status members; each asked at the same time as the others; listens: which needs no etcd
#   WAIT     seconds that one answer may take
CLIENT=${CLIENT:-etcdctl}
[ -x "$(command -v "${CLIENT%% *}")" ] || QUERIES=
if [ "${pid:-0}" = 0 ]; then
    QUERIES=
    why='etcd does not run; inv start'
    [ -e /etc/systemd/system/etcd.service ] || why='nothing is deployed here; inv deploy'
    case $(systemctl show etcd.service --property=AssertResult --value 2>/dev/null)$([ -e /etc/etcd/identity.json ] && echo joined) in
    nojoined) [ -d /var/lib/etcd/default.etcd/member/wal ] || why='its data directory is empty or not mounted, and the guard keeps it down' ;;
    esac
    [ -z "$(ls -d /var/lib/etcd/restoring /var/lib/etcd/restore-*/swapping 2>/dev/null)" ] || why='a restore was cut short, and etcd is kept down; the same restore again, or inv restore-undo; if it was inv recover, or a host is lost for good: inv recover again'
    [ "$(cat /var/lib/etcd/restoring 2>/dev/null)" != recover ] || why='inv recover was cut short, and etcd is kept down; inv recover again'
    put "complaint${tab}service" "$(printf %s "$why" | base64 -w0)"
fi
for path in /var/lib/etcd/restore-*/swapping; do
    [ ! -e "$path" ] || { path=${path%/swapping} && put unsettled "${path##*/restore-}"; }
done
if [ -n "$QUERIES" ]; then
    answers=$(mktemp -d /run/etcdops.XXXXXXXX) || exit 1
    trap 'rm -rf -- "$answers"' EXIT
    trap 'exit 129' HUP INT TERM PIPE
    for query in $QUERIES; do
        case $query in
        health) words='endpoint health' ;;
        status) words='endpoint status' ;;
        members) words='member list' ;;
        listens)
            started_with "$pid" ETCD_LISTEN_ "answer${tab}listens"
            continue
            ;;
        *) continue ;;
        esac
        # shellcheck disable=SC2086 # words, on purpose
        timeout -k 1 "$((WAIT + 1))" $CLIENT --command-timeout="${WAIT}s" --write-out=json $words >"$answers/$query" 2>"$answers/$query.err" &
    done
    wait
    set --
    for query in $QUERIES; do
        [ ! -e "$answers/$query" ] ||
            set -- "$@" "key=answer$tab$query" "$answers/$query" "key=complaint$tab$query" "$answers/$query.err"
    done
    [ $# = 0 ] || lines "$@"
    [ ! -f /etc/etcd/ssl/server.pem ] ||
        sed -n "/BEGIN CERT/,/END CERT/s/^/line${tab}answer${tab}certificate$tab/p" /etc/etcd/ssl/server.pem
fi
