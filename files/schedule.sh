# The backups that this host makes on a schedule: nothing where none is installed, and then no process is spawned.
unit=/etc/systemd/system/etcdops-backup
if [ -e $unit.timer ] && [ -e $unit.service ]; then
    every='' dir='' cluster='' newest=
    while IFS= read -r line; do
        case $line in
        Environment=ETCDOPS_EVERY=*) every=${line##*=} ;;
        Environment=ETCDOPS_DIR=*) dir=${line##*=} ;;
        Environment=ETCDOPS_CLUSTER=*) cluster=${line##*=} ;;
        esac
    done <$unit.service
    for path in "$dir/$cluster"-*T*Z-r*.json; do # in the order of their times
        [ ! -f "${path%.json}.db" ] || newest=$path
    done
    # shellcheck disable=SC2154 # prelude.sh
    put "answer${tab}schedule" "$({
        date +now=%s
        stat -c since=%Y $unit.timer $unit.service
        echo "every=$every"
        systemctl show --property=Id,ActiveState,Result etcdops-backup.timer etcdops-backup.service
    } | base64 -w0)"
    [ -z "$newest" ] || put "answer${tab}backup" "$(base64 -w0 <"$newest")"
fi
