# Before every script of a changing run: on a host that has a lock, the run must have it.  Held while the script runs, so
# that nobody takes the lock beneath one that its controller has left alone.  $LOCK is set before this: the run.
# Says, on standard error, fields parted by tabs: lock RUN ABOUT..., of whoever has it instead.
if [ -e /run/etcdops/owner ]; then
    exec 8</run/etcdops/work && flock -s -w 10 8 || { printf 'lock\t?' >&2 && exit 75; }
    IFS=$(printf '\t') read -r LOCK_RUN LOCK_PID LOCK_SINCE LOCK_ABOUT </run/etcdops/owner
    [ "$LOCK_RUN" = "$LOCK" ] || { printf 'lock\t%s\t%s' "$LOCK_RUN" "$LOCK_ABOUT" >&2 && exit 75; }
fi
unset LOCK LOCK_RUN LOCK_PID LOCK_SINCE LOCK_ABOUT
