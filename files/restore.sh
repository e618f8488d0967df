# A host's part of a restore.  All of it lies in /var/lib/etcd/restore-ID, beside the data directory and on its disk:
#   new/      the restored data directory, until it is swapped in
#   old/      what was there: the data directory, and the configuration as host.tar; that is the way back
#   swapping  there from the first change on: "data", or "nothing" where there was no data directory; then "disabled", if
#             etcd did not start at boot
#   sealed    there once the restore has come to its good end on every host: from then on it is completed, not undone
# While /var/lib/etcd/restoring is there, no etcd starts on this host, not at boot either (see its unit).
set -u
umask 077
tab=$(printf '\t')
home=/var/lib/etcd
data=$home/default.etcd
own='etc/etcd etc/systemd/system/etcd.service opt/etcd/current' # what a restore may change besides the data
tell() { printf '%s\t%s\n' "$1" "$2"; }
give_up() { echo "$*" >&2 && exit 1; }
digest() { if command -v openssl >/dev/null; then openssl dgst -sha256 -r; else sha256sum; fi; } # it is three times as fast

# What is here of restores: staged and unfinished ones, data set aside, and who is connected.
look() {
    for each in "$home"/restore-*; do
        [ -d "$each" ] || continue
        if [ -e "$each/swapping" ]; then tell swapped "${each##*/restore-}"; else tell staged "${each##*/restore-}"; fi
        [ ! -e "$each/sealed" ] || tell sealed "${each##*/restore-}"
    done
    if [ -e "$home/restoring" ]; then read -r id <"$home/restoring"; tell restoring "${id:-unknown}"; fi
    for each in "$home"/aside-*; do
        [ ! -d "$each" ] || tell "aside$tab${each##*/aside-}" "$(du -s -B1 "$each" | cut -f1) $(stat -c %Y "$each")"
    done
    [ ! -d "$data" ] || [ "$(stat -c %d "$data")" = "$(stat -c %d "$home")" ] || tell mounted "$data"
    # Established connections to port 2379: here, from there.
    sed -n "s/^ *[0-9]*: \([0-9A-F]*\):094B \([0-9A-F]*\):[0-9A-F]* 01 .*/client$tab\1$tab\2/p" /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

# id, size and SHA-256 of the snapshot on standard input, the program that restores, its arguments
stage() {
    id=$1 size=$2 sum=$3 program=$4
    shift 4
    for each in "$home"/restore-*; do # of runs that ended before they changed anything
        [ ! -d "$each" ] || [ -e "$each/swapping" ] || rm -rf -- "$each"
    done
    free=$(($(stat -f -c '%a * %S' -- "$home")))
    [ "$free" -gt $((size * 2 + (256 << 20))) ] ||
        give_up "$((free >> 20)) MiB free for $home, $(((size * 2 >> 20) + 256)) MiB needed to restore beside the old data"
    work=$home/restore-$id
    mkdir -- "$work" "$work/new" || exit 1
    trap 'rm -rf -- "$work"; exit 129' HUP INT TERM PIPE
    if head --bytes="$size" >"$work/snapshot.db" && [ "$(digest <"$work/snapshot.db" | cut -c1-64)" = "$sum" ]; then
        said=$("$program" snapshot restore "$work/snapshot.db" --data-dir "$work/new/default.etcd" "$@" 2>&1) &&
            rm -- "$work/snapshot.db" && [ -f "$work/new/default.etcd/member/snap/db" ] && [ -d "$work/new/default.etcd/member/wal" ] &&
            chown -R etcd:etcd "$work/new/default.etcd" && chmod 700 "$work/new/default.etcd" && sync -f "$work/new" && return
        said="etcd refuses to restore it: $(echo "$said" | grep -v '^{' | tail -n 1)"
    else
        said='the snapshot arrived damaged, or the disk is full'
    fi
    rm -rf -- "$work"
    give_up "$said"
}

stop() {
    [ "$(systemctl show etcd.service --property=LoadState --value)" != loaded ] || # a fresh host
        timeout 100 systemctl stop etcd.service || give_up 'etcd does not stop'
}

bar() { # id: no etcd starts from here on, not at boot either
    echo "$1" >"$home/restoring.new" && sync -- "$home/restoring.new" && mv -fT -- "$home/restoring.new" "$home/restoring" &&
        sync -- "$home" || exit 1
}

halt() { # id
    if [ -e "$home/restoring" ]; then
        read -r other <"$home/restoring"
        case $other in "$1" | recover) ;; *) give_up "another restore is under way here: $other" ;; esac
    fi
    bar "$1"
    stop
    for each in /proc/[0-9]*; do
        case $(readlink "$each/exe" 2>/dev/null) in /opt/etcd/*/etcd | '/opt/etcd/'*'/etcd (deleted)') ;; *) continue ;; esac
        case " $(tr '\0' ' ' <"$each/cmdline" 2>/dev/null)" in *' --name drill '* | *' --name salvage '*) continue ;; esac # throwaway.sh
        give_up "an etcd still runs: pid ${each#/proc/}"
    done
}

swap() { # id
    work=$home/restore-$1
    [ -d "$work/new/default.etcd" ] || give_up "$work/new/default.etcd is gone"
    mkdir -p -- "$work/old" || exit 1
    present=
    for each in $own; do [ ! -e "/$each" ] && [ ! -L "/$each" ] || present="$present $each"; done
    # shellcheck disable=SC2086 # a list of paths
    tar -C / -cf "$work/old/host.tar" --files-from /dev/null $present || exit 1
    sync -- "$work/old/host.tar" "$work/old" || exit 1 # before the file that says it is there
    had=nothing boot=disabled
    [ ! -d "$data" ] || had=data
    ! systemctl is-enabled --quiet etcd.service 2>/dev/null || boot=enabled
    echo "$had $boot" >"$work/swapping" || exit 1
    sync -- "$work/swapping" "$work" || exit 1
    [ $had = nothing ] || mv -T -- "$data" "$work/old/default.etcd" || exit 1
    mv -T -- "$work/new/default.etcd" "$data" || exit 1
    rm -f /etc/etcd/identity.json # of the old incarnation
    sync -- "$home" "$work" /etc/etcd
}

# The old data and configuration back, whatever the swap had come to; can be cut short anywhere and repeated.
# Data that an etcd may have served since is set aside in its turn: somebody may have written to it.
undo() { # id
    work=$home/restore-$1
    if [ -e "$work/swapping" ]; then
        if [ ! -e "$home/restoring" ]; then : >"$work/served" && sync -- "$work/served" "$work" || exit 1; fi
        bar "$1"
        stop
        read -r had boot <"$work/swapping"
        if [ -d "$data" ] && { [ "$had" = nothing ] || [ -d "$work/old/default.etcd" ]; }; then
            rm -rf -- "$work/new"
            mv -T -- "$data" "$work/new" || exit 1
        fi
        [ ! -d "$work/old/default.etcd" ] || mv -T -- "$work/old/default.etcd" "$data" || exit 1
        rm -f /etc/etcd/identity.json
        # What was not there goes again: an etcd.conf without data would make an empty cluster, at the next boot even.
        listed=$(tar -tf "$work/old/host.tar") || exit 1
        [ "$boot" != disabled ] || systemctl disable --quiet etcd.service 2>/dev/null
        for each in etc/systemd/system/etcd.service etc/etcd/etcd.conf; do
            echo "$listed" | grep -qxF "$each" || rm -f -- "/$each"
        done
        tar -C / -xpf "$work/old/host.tar" || exit 1
        sync -f /etc/systemd/system && sync -f /etc/etcd && sync -f "$home"
        systemctl daemon-reload
        if [ -e "$work/served" ] && [ -d "$work/new" ]; then
            mkdir -p -- "$home/aside-$1-undone" && mv -T -- "$work/new" "$home/aside-$1-undone/default.etcd" || exit 1
        fi
        rm -f -- "$work/swapping"
        sync -- "$work" "$home"
    fi
    rm -rf -- "$work" "$home/restoring"
    [ ! -d "$home" ] || sync -- "$home"
}

release() { rm -f -- "$home/restoring" && sync -- "$home"; } # from here on etcd may start again, after a power cut too

seal() { # id: on every host before any commits, for a host that had no data keeps no trace of a commit
    work=$home/restore-$1
    [ ! -e "$work/swapping" ] || { : >"$work/sealed" && sync -- "$work/sealed" "$work"; } || exit 1
}

commit() { # id
    work=$home/restore-$1 aside=$home/aside-$1
    [ ! -d "$work/old/default.etcd" ] || mv -T -- "$work/old" "$aside" || exit 1
    if [ -e "$aside/host.tar" ]; then
        mkdir -p -- "$aside/etc"
        tar -C "$aside" -xpf "$aside/host.tar" --wildcards 'etc/etcd/*.conf' 'etc/etcd/*.json' 2>/dev/null
        rm -f -- "$aside/host.tar"
    fi
    rm -f -- "$work/swapping" # before the seal on it
    rm -rf -- "$work" "$home/restoring"
    sync -- "$home"
}

drop() { # id
    [ -d "$home/aside-$1" ] || give_up "there is no $home/aside-$1"
    rm -rf -- "$home/aside-$1"
}

# One step at a time: after Ctrl-C one may still run here while its way back is sent.
if [ "$1" != look ] && [ -d "$home" ]; then
    exec 9<"$home"
    flock -w 100 9 || give_up 'a step of a restore still runs here; try again'
fi
"$@"
