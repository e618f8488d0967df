# Starts, restarts or stops etcd and waits until it is there or cannot be.
#   $1 start | restart | stop; $2 seconds to wait for a start
# A start ends with READY, which comes through raft and so needs a quorum: all members of a new cluster are
# started side by side, each by a script of its own.  When it fails, the state and the journal since then follow.
set -u
since=$(date '+%Y-%m-%d %H:%M:%S')
if [ "$1" = stop ]; then
    systemctl stop etcd.service
    exit
fi
systemctl reset-failed etcd.service 2>/dev/null
timeout "$2" systemctl "$1" etcd.service 2>/dev/null && exit 0
status=$?
[ $status = 124 ] && echo "not ready after $2 s"
systemctl show etcd.service --property=ActiveState,SubState,Result,AssertResult
journalctl --unit=etcd.service --since="$since" --lines=200 --output=cat --no-pager 2>/dev/null
exit 1
