# etcdctl for the member of this host: through its own loopback endpoint, over the transport that it was started with,
# which need not be what etcd.conf says by now.
pid=$(systemctl show etcd.service --property=MainPID --value 2>/dev/null)
started() { [ "${pid:-0}" = 0 ] || tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | sed -n "s/^$1=//p"; }
ssl=/etc/etcd/ssl
CLIENT="etcdctl --endpoints=https://127.0.0.1:2379 --cacert=$ssl/ca.pem --cert=$ssl/server.pem --key=$ssl/server-key.pem"
case $(started ETCD_LISTEN_CLIENT_URLS) in http:*) CLIENT='etcdctl --endpoints=http://127.0.0.1:2379' ;; esac
CLIENT="$CLIENT --dial-timeout=4s"
client() { $CLIENT "$@"; }
number() { sed -n "s/.*\"$1\":\([0-9][0-9]*\).*/\1/p"; } # of a JSON document on standard input
