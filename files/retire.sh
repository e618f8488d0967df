# Takes a member that is no longer one off its host, so that nothing starts there again under its old identity.  Can be
# cut short anywhere and repeated.
#   $1 the id under which its data is set aside; the rest: its files, in the order in which they go
set -eu
umask 077
home=/var/lib/etcd
data=$home/default.etcd
aside=$home/aside-$1
shift
systemctl disable --quiet etcd.service 2>/dev/null || :
timeout 100 systemctl stop etcd.service 2>/dev/null || : # not loaded any more, where this was cut short
for each in /proc/[0-9]*; do
    case $(readlink "$each/exe" 2>/dev/null || :) in /opt/etcd/*/etcd | '/opt/etcd/'*'/etcd (deleted)') ;; *) continue ;; esac
    case " $(tr '\0' ' ' <"$each/cmdline" 2>/dev/null)" in *' --name drill '* | *' --name salvage '*) continue ;; esac # throwaway.sh
    echo "an etcd still runs: pid ${each#/proc/}" >&2 && exit 1
done
rmdir -- "$home"/aside-* 2>/dev/null || : # of a run that was cut short right here
if [ ! -d "$data" ]; then
    :
elif [ "$(stat -c %d "$data")" = "$(stat -c %d "$home")" ]; then
    mkdir -- "$aside"
    mv -T -- "$data" "$aside/default.etcd"
    mkdir -p -- "$aside/etc/etcd"
    for each in /etc/etcd/*.conf /etc/etcd/*.json; do [ ! -f "$each" ] || cp -p -- "$each" "$aside/etc/etcd"; done
    sync -- "$home" "$aside"
else
    echo "$data is a mount point, and stays as it is"
fi
rm -f -- "$@"
for each in /etc/etcd/ssl /etc/etcd; do [ ! -d "$each" ] || rmdir --ignore-fail-on-non-empty -- "$each"; done
sync -- /etc
systemctl daemon-reload
systemctl reset-failed etcd.service 2>/dev/null || :
