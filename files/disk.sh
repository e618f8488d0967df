# shellcheck disable=SC2154 # host.sh sets data
# How long the disk below the data directory takes to have one entry of a write-ahead log for good: write and fdatasync
# of 2300 bytes, over and over, in a file that is laid out before, as etcd does it.  After host.sh: $data.
dir=$data
while [ ! -d "$dir" ]; do dir=${dir%/*}/ dir=${dir%/} dir=${dir:-/}; done
trial=$(mktemp -- "$dir/.etcdops-check.XXXXXXXX") && {
    trap 'rm -f -- "$trial"' EXIT
    trap 'exit 143' HUP INT TERM PIPE
    until=$(($(date +%s) + 5))
    dd if=/dev/zero of="$trial" bs=64k count=8 conv=fdatasync 2>/dev/null &&
        n=0 && while [ "$n" -lt 100 ] && [ "$(date +%s)" -lt $until ]; do
            took=$(dd if=/dev/zero of="$trial" bs=2300 count=1 seek="$n" conv=notrunc,fdatasync 2>&1) || break
            took=${took##* copied, }
            put sync "${took%% *}"
            n=$((n + 1))
        done
    rm -f -- "$trial"
    trap - EXIT HUP INT TERM PIPE
}
