# Shared by the scripts that report: one fact a line, KEY<tab>VALUE; text of any shape goes as base64.
set -u
umask 077
tab=$(printf '\t')
put() { printf '%s\t%s\n' "$1" "$2"; }
