"""The lab: real Debian hosts on this machine, each a systemd-nspawn container on one bridge."""
