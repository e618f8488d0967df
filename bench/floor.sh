#!/bin/sh
# The floor: what a hand-tuned parallel ssh script needs for the work of a fresh `inv deploy`.
#   floor.sh SSH_CONFIG VERSION PAYLOADS HOST...
# PAYLOADS/HOST.tar holds the finished configuration, certificates, unit and release archive: all that takes thought,
# made beforehand.  One connection for each host; a host is done when its member is ready and healthy.
set -eu
config=$1 version=$2 payloads=$3
shift 3
remote='set -eu
id etcd >/dev/null 2>&1 || useradd --system --user-group --no-create-home --home-dir /var/lib/etcd --shell /usr/sbin/nologin etcd
tar -xf - -C /
cd /opt/etcd
sha256sum --check --status archive.sha256
mkdir '"$version"'
tar -xzf archive.tar.gz -C '"$version"' --strip-components=1 --no-same-owner
rm archive.tar.gz
ln -sfn '"$version"' current
ln -sfn /opt/etcd/current/etcd /opt/etcd/current/etcdctl /opt/etcd/current/etcdutl /usr/local/bin/
install -d -m 700 -o etcd -g etcd /var/lib/etcd
chown etcd:etcd /etc/etcd/ssl/server.pem /etc/etcd/ssl/peer.pem
chgrp etcd /etc/etcd/ssl
systemctl daemon-reload
systemctl enable --quiet etcd
timeout 60 systemctl start etcd
etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/etcd/ssl/ca.pem --cert=/etc/etcd/ssl/server.pem --key=/etc/etcd/ssl/server-key.pem endpoint health >/dev/null 2>&1'
pids=
for host; do
    ssh -F "$config" "$host" "$remote" <"$payloads/$host.tar" &
    pids="$pids $!"
done
for pid in $pids; do wait "$pid"; done
