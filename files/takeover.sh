# The etcd that `inv adopt` found on this host makes way for ours, on the same data.  It is stopped, and what it was set up
# with is kept in /etc/etcd/adopted.  Can be cut short anywhere and repeated: /etc/etcd/adopted.conf goes last.
kept=/etc/etcd/adopted
adopted() { sed -n "s/^$1=//p" /etc/etcd/adopted.conf; }
keep() { # files that are replaced or removed after this, each with its path
    for file; do
        if [ ! -f "$file" ] || [ -e "$kept$file" ]; then continue; fi
        mkdir -p -- "$kept${file%/*}"
        cp -p -- "$file" "$kept$file.new"
        mv -T -- "$kept$file.new" "$kept$file"
    done
}
same() { [ "$(stat -L -c %d:%i -- "$1" 2>/dev/null)" = "$(stat -L -c %d:%i -- "$2" 2>/dev/null)" ]; }
reachable() { # its data can be renamed to the new place, or is there
    for link in "$new" "$data/member" "$data/member/wal" "$data/member/snap"; do # chown -R follows none
        [ ! -L "$link" ] || { echo "$link is a symlink" >&2; return 1; }
    done
    if [ ! -d "$data/member" ] || same "$data" "$new"; then return; fi
    [ ! -e "$new/member" ] || { echo "there is data in $data and in $new" >&2; return 1; }
    install -d -m 700 -- "$new"
    [ "$(stat -c %d -- "$data/member")" = "$(stat -c %d -- "$new")" ] ||
        { echo "$data is not on the file system of $new" >&2; return 1; }
}
take_over() {
    unit=$(adopted UNIT) data=$(adopted DATA_DIR) new=/var/lib/etcd/default.etcd
    fragment=$(systemctl show "$unit" --property=FragmentPath --value)
    drop_ins=$(systemctl show "$unit" --property=DropInPaths --value | tr ' ' '\n' | grep "^/\(etc\|run\)/systemd/system/$unit\.d/" || :)
    install -d -m 755 -- /var/lib/etcd
    reachable
    install -d -m 700 -- "$kept"
    # shellcheck disable=SC2086 # paths without spaces
    keep "$fragment" $drop_ins /etc/etcd/*.conf /etc/etcd/ssl/* /etc/systemd/system/etcd.service \
        /usr/local/bin/etcd /usr/local/bin/etcdctl /usr/local/bin/etcdutl
    for each in "$unit" etcd.service; do
        [ "$(systemctl show "$each" --property=LoadState --value)" = not-found ] || systemctl stop "$each"
    done
    systemctl disable --quiet "$unit" 2>/dev/null || :
    # shellcheck disable=SC2086 # the same
    [ -z "$drop_ins" ] || rm -f -- $drop_ins # they would hold for our unit, too
    case $unit:$fragment in # under its old name it must not start again: its data is no longer where it looks
    etcd.service:* | *:) ;;
    *:/etc/systemd/system/*) rm -f -- "$fragment" ;;
    *) systemctl mask --quiet "$unit" ;;
    esac
    [ ! -d "$data/member" ] || same "$data" "$new" || mv -T -- "$data/member" "$new/member"
    chown -R etcd:etcd -- "$new"
    chmod 700 -- "$new"
}
taken_over() {
    sync -- /etc /var/lib/etcd
    mv -T -- /etc/etcd/adopted.conf "$kept/adopted.conf"
}
