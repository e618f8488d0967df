# Puts changes in place: reads a tar stream on standard input that holds `manifest` and the files it names.
# First everything is staged beside where it will be, then all of it is renamed: a full disk, or a run cut
# short while staging, leaves the host as it was (but for the account and empty directories).  Manifest: one step a line, fields parted by tabs.
set -eu
umask 077
tab=$(printf '\t')
mkdir -p /opt
find /opt -maxdepth 1 -name '.etcdops.*' -mmin +60 -exec rm -rf -- {} + # of runs that were killed
work=$(mktemp -d /opt/.etcdops.XXXXXXXX) # where the room for a release was looked for
staged=
clean() {
    status=$?
    rm -rf -- "$work"
    for path in $staged; do rm -rf -- "$path.etcdops-new"; done
    exit $status
}
trap clean EXIT
trap 'exit 129' HUP INT TERM PIPE
tar -xf - -C "$work" --no-same-owner

release() { # version, digest, the programs as the archive names them
    target=/opt/etcd/$1
    echo "$2  $work/release" | sha256sum --check --status || { echo "the archive arrived damaged: its SHA-256 is not $2" >&2; return 1; }
    rm -rf -- "$target.etcdops-new"
    mkdir -- "$target.etcdops-new"
    staged="$staged $target"
    # shellcheck disable=SC2086 # a list of words
    tar -xzf "$work/release" -C "$target.etcdops-new" --strip-components=1 --no-same-owner --no-same-permissions $3
    chmod 755 "$target.etcdops-new" "$target.etcdops-new"/*
    echo "$2" >"$work/archive.sha256"
    install -m 644 "$work/archive.sha256" "$target.etcdops-new/archive.sha256"
    "$target.etcdops-new/etcd" --version | grep -qxF "etcd Version: $1" ||
        { echo "the etcd in the archive says it is $("$target.etcdops-new/etcd" --version 2>&1 | head -n 1), not $1" >&2; return 1; }
}

# An environment name that etcd does not know is only a warning to it, so a misspelt setting would be silently dead.
settings() { # etcd.conf staged, version
    etcd=/opt/etcd/$2/etcd
    [ -x "$etcd" ] || etcd=/opt/etcd/$2.etcdops-new/etcd
    [ -x "$etcd" ] || return 0
    "$etcd" --help 2>&1 | grep -oE -- '--[a-z0-9-]+' >"$work/flags" || :
    unknown=$(sed -n 's/^ETCD_\([A-Z0-9_]*\)=.*/--\1/p' "$1" | tr 'A-Z_' 'a-z-' | grep -vxFf "$work/flags" | tr '\n' ' ')
    [ -z "$unknown" ] || { echo "etcd $2 has no setting ${unknown% }" >&2; return 1; }
}

taken= late=
! grep -qx take-over "$work/manifest" || taken=yes # see takeover.sh
while IFS=$tab read -r step a b c d; do
    case $step in
    user) getent passwd etcd >/dev/null || useradd --system --user-group --no-create-home --home-dir /var/lib/etcd --shell /usr/sbin/nologin etcd ;;
    dir)
        if [ -n "$taken" ] && [ -d "$c" ]; then
            late="$late $a,$b,$c" # what runs as another user still must not be locked out of it
        else
            install -d -m "$a" -o "${b%:*}" -g "${b#*:}" -- "$c"
        fi
        ;;
    release) release "$a" "$b" "$c" ;;
    file)
        staged="$staged $c"
        install -m "$a" -o "${b%:*}" -g "${b#*:}" -- "$work/$d" "$c.etcdops-new"
        ;;
    settings) settings "$a.etcdops-new" "$b" ;;
    link)
        staged="$staged $b"
        ln -sfn -- "$a" "$b.etcdops-new"
        ;;
    esac
done <"$work/manifest"

# shellcheck disable=SC2046 # managed paths have no spaces
[ -z "$staged" ] || sync -- $(for path in $staged; do find "$path.etcdops-new" -type f; done)
trap '' HUP INT TERM PIPE # from here on to the end, not half
[ -z "$taken" ] || take_over
for each in $late; do
    mode=${each%%,*} path=${each##*,} owner=${each%,*}
    owner=${owner#*,}
    install -d -m "$mode" -o "${owner%:*}" -g "${owner#*:}" -- "$path"
done
parents=
for path in $staged; do
    old=
    case $path in
    /opt/etcd/[0-9]*)
        rm -rf -- "$path.etcdops-old" # of a run that was killed here
        [ ! -d "$path" ] || old=$path.etcdops-old # from another archive, or one that was cut short
        ;;
    esac
    [ -z "$old" ] || mv -T -- "$path" "$old"
    mv -fT -- "$path.etcdops-new" "$path"
    [ -z "$old" ] || rm -rf -- "$old"
    parents="$parents ${path%/*}"
done
# shellcheck disable=SC2086 # a list of words
[ -z "$staged" ] || sync -- $parents # a power cut now must not take back what was reported as done
staged=

[ -z "$taken" ] || taken_over # before it is enabled: as long as the record is there, nothing starts at boot

# `enable` reloads the units, too.
if grep -qx enable "$work/manifest"; then
    systemctl enable --quiet etcd.service
elif grep -qx reload "$work/manifest"; then
    systemctl daemon-reload
fi
