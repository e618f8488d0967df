# Shared by the scripts that report: one fact a line, KEY<tab>VALUE; text of any shape goes as base64, or line by line.
set -u
umask 077
tab=$(printf '\t')
command -v awk >/dev/null || { echo 'there is no awk here: mawk has it, or gawk' >&2 && exit 1; }
put() { printf '%s\t%s\n' "$1" "$2"; }
lines() { awk '{ print "line\t" key "\t" $0 }' "$@" </dev/null; } # of many files in one process: key=KEY FILE ...
started_with() { tr '\0' '\n' <"/proc/$1/environ" 2>/dev/null | sed -n "s/^$2/line$tab$3$tab&/p"; } # PID PREFIX KEY
