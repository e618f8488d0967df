# More of an etcd that somebody else has set up: its files, where its data is, and what it says of itself and its cluster.
#   CLIENT  etcdctl for it; $@ places of data, -- and files
#   standard input: a user and a password of etcd's, a line each, both empty where the certificate says it
IFS= read -r ETCDCTL_USER || :
IFS= read -r ETCDCTL_PASSWORD || :
[ -z "$ETCDCTL_USER" ] || export ETCDCTL_USER ETCDCTL_PASSWORD
# shellcheck disable=SC2034 # for etcd.sh: it runs
pid=1
while [ "$1" != -- ]; do
    place=$1 dir=$1
    shift
    while [ ! -d "$dir" ]; do dir=${dir%/*} dir=${dir:-/}; done
    put data "$place$tab$([ -d "$place/member" ] && echo member)$tab$(stat -c %d:%i -- "$dir")"
    [ ! -d "$place/member" ] || put member "$place$tab$(stat -c %d -- "$place/member")"
    for link in "$place" "$place/member" "$place/member/wal" "$place/member/snap"; do
        [ ! -L "$link" ] || put link "$link$tab$(readlink -f -- "$link")"
    done
done
shift
for path; do
    [ ! -f "$path" ] || put "file$tab$path" "$(base64 -w0 <"$path")"
done
