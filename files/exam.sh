# shellcheck disable=SC2154 # prelude.sh and host.sh set data and tab
# What a check-up looks at beyond what a deploy has to know.  After host.sh: $data is the data directory.
read -r hostname </proc/sys/kernel/hostname
put hostname "$hostname"
put account "$(getent passwd etcd 2>/dev/null)"
put restarts "$(systemctl show etcd.service --property=NRestarts --value 2>/dev/null)"
dir=$data
while [ ! -d "$dir" ]; do dir=${dir%/*}/ dir=${dir%/} dir=${dir:-/}; done
put filesystem "$(stat -f -c %T -- "$dir")"
for path in /etc/etcd/ssl/server.pem /etc/etcd/ssl/peer.pem /etc/etcd/ssl/client.pem; do # the certificates in them, never the keys
    [ ! -f "$path" ] || put "certificate$tab$path" "$(sed -n '/BEGIN CERT/,/END CERT/p' "$path" | base64 -w0)"
done

# Which ports of the other members this host reaches, each tried at the same time as the others.
#   TARGETS  a line for each: NAME ADDRESS PORT
#   PATIENCE seconds that one may take
reach() {
    # shellcheck disable=SC2016 # the inner shell expands them
    said=$(timeout "$PATIENCE" bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$2" "$3" 2>&1)
    put "reach$tab$1$tab$3" "$?$tab$(printf %s "$said" | tail -n 1)"
}
if [ -n "$TARGETS" ] && command -v bash >/dev/null; then
    while read -r name address port; do
        reach "$name" "$address" "$port" </dev/null &
    done <<EOF
$TARGETS
EOF
    wait
fi
