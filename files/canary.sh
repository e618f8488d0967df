# A client that writes to the cluster, one write after the other, until its standard input ends: it is a canary.
#   $1 the endpoints of all members  $2 the key that it writes  $3 seconds between two writes
#   $4 endpoints to go over to, as a client does while the transport changes: at the first line on standard input
#   the rest: keys that hosts have left which were lost; they are deleted at the end, too
# A line for each write, in hundredths of a second:
#   ok | failed <tab> when it ended, since boot <tab> how long it took <tab> how many tries <tab> why the last one failed
# At its end the key is deleted, and told how often it was written: version <tab> N.
exec 8<&- # not to keep others off this host: it writes but a key of its own, and goes on for a whole run
client() { $CLIENT --command-timeout=2s --dial-timeout=2s "$@"; }
CLIENT=$(printf %s "$CLIENT" | sed "s|--endpoints=[^ ]*|--endpoints=$1|")
key=$2 pause=$3 next=$4 lease='' granted=0 number=0 over=''
shift 4
limit=1000 # hundredths of a second after which a write that nobody acknowledges has failed

up() { read -r now _ </proc/uptime && now=${now%.*}${now#*.}; }
words() { printf %s "$said" | grep -v '^{' | tail -n 1 | sed 's/^Error: //' | tr '\t' ' '; }
# Should this host die, the key goes with its lease.
grant() {
    said=$(client lease grant 600 2>&1) || return 1
    lease=${said#*lease } lease=${lease%% *} granted=$now
}
write() {
    up
    [ -n "$lease" ] && [ $((now - granted)) -lt 30000 ] || grant || return 1
    said=$(client put --lease="$lease" "$key" "$number" 2>&1) && return 0
    case $said in *'lease not found'*) lease='' ;; esac
    return 1
}
end() {
    trap '' HUP INT TERM PIPE USR1
    for each; do client del "$each" >/dev/null 2>&1; done
    for _ in 1 2 3; do
        said=$(client get "$key" --write-out=json 2>/dev/null) && printf 'version\t%s\n' "$(printf %s "$said" | number version)"
        client del "$key" >/dev/null 2>&1 && client lease revoke "${lease:-0}" >/dev/null 2>&1 && break
    done
}
trap 'end "$@"' EXIT
trap 'exit 129' HUP INT TERM PIPE
trap 'over=1' USR1
trap 'CLIENT=$(printf %s "$CLIENT" | sed "s|--endpoints=[^ ]*|--endpoints=$next|")' USR2
exec 3<&0 </dev/null
{
    ! read -r _ <&3 || { kill -USR2 $$ && cat <&3 >/dev/null; }
    kill -USR1 $$
} & # also when the connection breaks

while [ -z "$over" ]; do
    number=$((number + 1)) tries=0 outcome='' why=''
    up
    began=$now
    until [ -n "$outcome" ]; do
        tries=$((tries + 1))
        if write; then outcome=ok; else why=$(words); fi
        up
        [ -z "$outcome" ] || break
        [ $((now - began)) -lt $limit ] || outcome=failed
        [ -z "$over" ] || break
        sleep 0.02
    done
    [ -z "$outcome" ] || printf '%s\t%s\t%s\t%s\t%s\n' "$outcome" "$now" $((now - began)) "$tries" "$why"
    [ -n "$over" ] || sleep "$pause"
done
