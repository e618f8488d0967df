# Has etcd write a snapshot of its log at its next start, so that no later start reads what stands before it.
#   $1 begin: for the next start, by a drop-in that a reboot forgets | wait: until it is written, and no more of it
#      | end: no more of it
dir=/run/systemd/system/etcd.service.d
end() {
    [ -e $dir/etcdops-log.conf ] || return 0
    rm -f -- $dir/etcdops-log.conf /run/etcdops-log.env
    rmdir --ignore-fail-on-non-empty -- $dir
    systemctl daemon-reload
}
newest() { stat -c %Y /var/lib/etcd/default.etcd/member/snap/*.snap 2>/dev/null | sort -n | tail -n 1; }
began() { # when the process was started, in seconds since 1970; no time at all is midnight to date
    at=$(systemctl show etcd.service --property=ExecMainStartTimestamp --value)
    [ -n "$at" ] || { echo 'systemd does not tell when etcd was started' >&2 && return 1; }
    date -d "$at" +%s
}
case $1 in
begin)
    mkdir -p $dir
    echo ETCD_SNAPSHOT_COUNT=1 >/run/etcdops-log.env
    printf '[Service]\nEnvironmentFile=/run/etcdops-log.env\n' >$dir/etcdops-log.conf
    systemctl daemon-reload
    ;;
wait)
    started=$(began) || exit 1
    tries=0
    until [ "$(newest)" -ge "$started" ] 2>/dev/null; do
        tries=$((tries + 1))
        [ $tries -le 100 ] || { echo 'etcd writes no snapshot of its log' >&2 && exit 1; }
        client --command-timeout=5s put /etcdops/log x >/dev/null 2>&1 # an entry of the log; one is needed
        sleep 0.1
    done
    client --command-timeout=5s del /etcdops/log >/dev/null 2>&1
    end
    ;;
end) end ;;
look)
    started=$(began) || exit 1
    put started "$started"
    put snapshot "$(newest)"
    # Members that the backend has noted as removed: a key and its value stand side by side in a page.
    put removed "$(LC_ALL=C grep -aoE '[0-9a-f]{16}removed' /var/lib/etcd/default.etcd/member/snap/db | sort -u | sed 's/removed//' | tr '\n' ' ')"
    id=$(systemctl show etcd.service --property=InvocationID --value)
    put cluster "$(journalctl _SYSTEMD_INVOCATION_ID="$id" --output=cat --no-pager 2>/dev/null |
        sed -n 's/.*"msg":"\(updated cluster version\|set initial cluster version\|set cluster version from store\)".*"\(to\|cluster-version\)":"\([0-9.]*\)".*/\3/p' | tail -n 1)"
    put unknown "$(journalctl _SYSTEMD_INVOCATION_ID="$id" --output=cat --no-pager 2>/dev/null |
        sed -n 's/.*unrecognized environment variable\(","environment-variable":"\| \)\([A-Z0-9_]*\).*/\2/p' | sort -u | tr '\n' ' ')"
    ;;
esac
