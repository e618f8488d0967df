# Starts, restarts or stops etcd and waits until it is there or cannot be.
#   $1 start | restart | stop | begin; $2 seconds to wait for a start
# begin: a start that waits no longer than until this member answers its peers, which needs none of them.
# A start ends with READY, which comes through raft and so needs a quorum: all members of a new cluster are
# started side by side, each by a script of its own.  When it fails, the state and what etcd said follow.
set -u
service=$(sed -n 's/^UNIT=//p' /etc/etcd/adopted.conf 2>/dev/null) # of one that deploy has not taken over yet
service=${service:-etcd.service}
if [ "$1" = stop ]; then
    systemctl stop "$service"
    exit
fi
systemctl reset-failed "$service" 2>/dev/null
if [ "$1" = begin ]; then
    systemctl start --no-block "$service"
    # It opens its metrics port (2381, 094D) right after it has begun to serve peers; there is no other sign of that.
    grep -q '^ETCD_LISTEN_METRICS_URLS=.*:2381' /etc/etcd/etcd.conf || exit 0
    waited=0
    until grep -q '^ *[0-9]*: [0-9A-F]*:094D [0-9A-F:]* 0A ' /proc/net/tcp || [ $waited -ge $(($2 * 50)) ]; do
        [ $((waited % 10)) != 9 ] ||
            case $(systemctl show "$service" --property=SubState --value) in start*) ;; *) break ;; esac # auto-restart: it has failed
        sleep 0.02
        waited=$((waited + 1))
    done
    exit 0 # how it went is told by the start that follows
fi
began=$(date +%s)
if [ "$1" = restart ]; then
    # How long the old process takes to stop is no time that the new one has: where a client hangs on it, up to its
    # TimeoutStopSec.  systemd goes on with both, whatever becomes of us.
    old=$(systemctl show "$service" --property=MainPID --value)
    timeout "$2" systemctl restart --no-block "$service" 2>/dev/null
    waited=0
    while [ "${old:-0}" != 0 ] && [ -e "/proc/$old" ]; do
        [ $waited -lt 2400 ] || { echo 'the process that is to make way has not ended within 120 s' && exit 1; }
        sleep 0.05
        waited=$((waited + 1))
    done
fi
timeout "$2" systemctl start "$service" 2>/dev/null && exit 0
status=$?
[ $status = 124 ] && echo "not ready after $2 s"
systemctl show "$service" --property=AssertResult | grep no
case $(cat /var/lib/etcd/restoring 2>/dev/null || echo none) in
none) ;;
recover) echo 'inv recover was cut short here: inv recover again' ;;
*) echo 'a restore was cut short here: inv restore again, or inv restore-undo; if it was inv recover, or a host is lost for good: inv recover again' ;;
esac
# What this start said, and not what the process before it said while it stopped.
id=$(systemctl show "$service" --property=InvocationID --value)
timeout 5 journalctl --sync 2>/dev/null # on a busy host the journal is behind
words() { journalctl "$@" --lines=200 --output=cat --no-pager 2>/dev/null; }
said=$(words _SYSTEMD_INVOCATION_ID="$id")
# On a busy host systemd has tried once more by now, and that start has told nothing yet: then what came after the first,
# without systemd's own words.
printf '%s\n' "$said" | grep -v '^{"level":"\(info\|debug\)"' | grep -q . || said=$(words --unit="$service" --since="@$began" |
    sed -n '/^Starting /,$p' | grep -v -e "^$service: " -e '^Starting ' -e '^Failed to start ' -e '^Stopped ')
printf '%s\n' "$said"
exit 1
