# Starts, restarts or stops etcd and waits until it is there or cannot be.
#   $1 start | restart | stop; $2 seconds to wait for a start
# A start ends with READY, which comes through raft and so needs a quorum: all members of a new cluster are
# started side by side, each by a script of its own.  When it fails, the state and what etcd said follow.
set -u
if [ "$1" = stop ]; then
    systemctl stop etcd.service
    exit
fi
systemctl reset-failed etcd.service 2>/dev/null
timeout "$2" systemctl "$1" etcd.service 2>/dev/null && exit 0
status=$?
[ $status = 124 ] && echo "not ready after $2 s"
systemctl show etcd.service --property=AssertResult | grep no
[ ! -e /var/lib/etcd/restoring ] || echo 'a restore was cut short here: inv restore again, or inv restore-undo'
# What this start said, and not what the process before it said while it stopped.
id=$(systemctl show etcd.service --property=InvocationID --value)
journalctl _SYSTEMD_INVOCATION_ID="$id" --lines=200 --output=cat --no-pager 2>/dev/null
exit 1
