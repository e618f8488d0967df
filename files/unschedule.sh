# Ends the schedule of backups on this host; a backup that is under way is given up, and those that are there stay.
#   $1 the program that makes them; the rest: the units, and what has them started at boot
set -eu
systemctl disable --now --quiet etcdops-backup.timer 2>/dev/null || :
systemctl stop etcdops-backup.service 2>/dev/null || :
systemctl clean --what=state etcdops-backup.timer 2>/dev/null || : # when it last ran
rm -f -- "$@"
[ ! -d "${1%/*}" ] || rmdir --ignore-fail-on-non-empty -- "${1%/*}"
systemctl daemon-reload
systemctl reset-failed etcdops-backup.service 2>/dev/null || :
