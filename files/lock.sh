# Holds the lock of a changing run on this host for as long as its controller is heard of.  What is locked is an open
# file of this process: free when that ends, however it ends, and after a reboot.
#   $1 the run  $2 seconds of silence after which its controller is gone  $3 seconds to wait for what runs here still
#   $4 first; again (it had the lock before); break (from whoever has it)
# Standard input: a line about the run, then a byte for each sign of life: a comma while it only tries to have it, a dot
# from when it is its own for good (beat tells who was the last to say so); at last e, and how it ended.
# Says, fields parted by tabs: held RUN CONFIRMED AGE SILENCE ABOUT..., lost RUN ABOUT...; or taken (busy, when that
# takes a while), and then a line for each sign of life.
set -u
umask 077
tab=$(printf '\t')
run=$1 silence=$2 wait=$3 how=$4
IFS= read -r about || exit 0
command -v flock >/dev/null || { echo 'there is no flock here, hence no lock: util-linux has it' >&2 && exit 1; }
mkdir -p /run/etcdops && cd /run/etcdops && exec 7>>lock 8>>work || exit 1

owner() { # what the one who has it, or had it last, says of itself; fails where that one lives no more
    holder= pid= since= rest=
    [ ! -e owner ] || IFS=$tab read -r holder pid since rest <owner
    [ -n "$pid" ] && grep -qsaF -- "$holder" "/proc/$pid/cmdline"
}
confirmed() { read -r beat 2>/dev/null <beat || beat= && [ "$beat" = "$1" ]; }
yields() { # whether the one who has it is about to give it back: ourselves, by a connection that closes or has stalled
    [ "$holder" != "$run" ] || return 0
    [ "$how" = again ] && ! confirmed "$holder" # or another that only tries: on a host that is ours it is refused
}
if ! flock -n 7; then
    known= patience=5
    ! owner || known=yes
    [ "$how" != again ] || patience=$silence
    if [ "$known" ] && [ "$how" = break ]; then
        kill "$pid" && flock -w 5 7 || { echo "the lock of $holder (process $pid) cannot be broken" >&2 && exit 1; }
        timeout 2 logger -t etcdops -- "${rest##*"$tab"}: its lock was broken by ${about##*"$tab"}" 7>&- || :
    elif ! yields || ! flock -w "$patience" 7; then
        known=
        ! owner || known=yes
        if [ "$known" ]; then
            now=$(date +%s) last=$(stat -c %Y beat 2>/dev/null) || last=$since
            confirmed "$holder" && sure=yes || sure=no last=$since
            printf 'held\t%s\t%s\t%s\t%s\t%s\n' "$holder" "$sure" "$((now - since))" "$((now - last))" "$rest"
        else
            printf 'held\t?\tno\t0\t0\t?\n' # it has just been taken: whose it is, is about to be written
        fi
        exit 0
    fi
fi
since=$(date +%s)
if [ "$how" = again ]; then
    was=$since
    owner || :
    if [ "$holder" != "$run" ]; then # rebooted; or another has had it, or has but tried to
        since=$was
        confirmed "$run" || [ -z "$beat" ] || {
            [ "$beat" = "$holder" ] || rest=
            printf 'lost\t%s\t%s\n' "$beat" "$rest" && exit 0
        }
    fi
fi
flock -n 8 || { echo busy && flock -w "$wait" 8; } || {
    exec 8>&-
    pids=
    for file in /proc/[0-9]*/fd/8; do # of fence.sh, and so of all that the command has started
        [ "$(readlink "$file")" != "$PWD/work" ] || pids="$pids $(echo "$file" | cut -d / -f 3)"
    done
    echo "a command of an earlier run still runs here, and may for as long as its time is${pids:+: kill$pids there ends it}" >&2
    exit 1
}
printf '%s\t%s\t%s\t%s\n' "$run" "$$" "$since" "$about" >owner.new && mv -f owner.new owner || exit 1
exec 8>&-
echo taken
told=
while sign=$(timeout "$silence" head -c 1 7>&-); do
    case $sign in
    .) told=yes && echo "$run" >beat ;;
    ,) ;;
    *) break ;;
    esac
    echo
done
exec 7>&- # whoever is next waits for no journal
end='its controller was heard of no more'
[ "$sign" != e ] || end=$(head -c 400 | tr -cd '[:print:]')
[ -z "$told" ] || logger -t etcdops -- "${about##*"$tab"}: $end" || :
