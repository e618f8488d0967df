# etcdctl for the member of this host: through its own endpoint, over the transport that it was started with,
# which need not be what etcd.conf says by now; and as who we are to etcd: standard input begins with a user and a
# password, a line each, both empty where the certificate says it.  Only the environment ever has them.
IFS= read -r ETCDCTL_USER || :
IFS= read -r ETCDCTL_PASSWORD || :
[ -z "$ETCDCTL_USER" ] || export ETCDCTL_USER ETCDCTL_PASSWORD
service=
[ ! -e /etc/etcd/adopted.conf ] || service=$(sed -n 's/^UNIT=//p' /etc/etcd/adopted.conf 2>/dev/null)
pid=${main_pid:-$(systemctl show "${service:-etcd.service}" --property=MainPID --value 2>/dev/null)} # host.sh knows it
started() { [ "${pid:-0}" = 0 ] || tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | sed -n "s/^$1=//p"; }
ssl=/etc/etcd/ssl
pair=$ssl/client
[ -e $pair.pem ] || pair=$ssl/server # distributed before members had a pair for this
ENDPOINT=$(started ETCD_ADVERTISE_CLIENT_URLS) # not the loopback one: a certificate that was brought need not cover it
ENDPOINT=${ENDPOINT%%,*}
SECURE="--cacert=$ssl/ca.pem --cert=$pair.pem --key=$pair-key.pem"
[ -e $pair.pem ] || SECURE= # with http they do nothing
if [ -n "$service" ]; then # it was adopted, and has certificates of its own until deploy takes it over
    adopted() { sed -n "s/^$1=//p" /etc/etcd/adopted.conf; }
    ENDPOINT=$(adopted ENDPOINT) SECURE=$(adopted SECURE) PATH=$PATH:$(adopted BIN_DIR)
fi
CLIENT="etcdctl --endpoints=${ENDPOINT:-https://127.0.0.1:2379} $SECURE --dial-timeout=4s"
client() { $CLIENT "$@"; }
number() { sed -n "s/.*\"$1\":\([0-9][0-9]*\).*/\1/p"; } # of a JSON document on standard input
