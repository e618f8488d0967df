"""The base image: the smallest Debian that an etcd host is, built once and shared by all hosts.

It is a folder, named after the digest of its recipe, that becomes the lower layer of each host.  Overlays may
stand on a folder that has its name, so it is never changed or replaced; a new recipe makes a new one beside it.
While no lab is up, all of them can be deleted.
"""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path

from etcdops.lab import debian, overlay
from etcdops.lab.process import run
from etcdops.release import locked

CACHE = Path("/var/cache/etcdops-lab")
IMAGES = CACHE / "images"
BUILD_SECONDS = 600
ACCOUNTS = {"root": "root", "ops": "home/ops", "opspw": "home/opspw", "nosudo": "home/nosudo"}
SUDO_PASSWORD = "lab-sudo"  # noqa: S105 - what sudo asks `opspw` for, on throw-away hosts only

PACKAGES = "systemd,systemd-sysv,dbus,openssh-server,iproute2,passwd,sudo,procps,ca-certificates"

# Written by a hook and not given as --dpkgopt: mmdebstrap would filter each archive in Python (9 s more).
_EXCLUDE = """\
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/man/*
force-unsafe-io
"""

# mmdebstrap mounts /sys and more below the image: only it may see that, lest we delete what is mounted there.
# And neither it nor dpkg may go on building when we are killed.
_CONTAINED = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child")

# Where usrmerge is a package of its own, it would bring all of perl.
_MERGED_USR = Path("/usr/share/mmdebstrap/hooks/maybe-merged-usr")

_CUSTOMIZE = f"""\
set -eu
cd "$1"

# A host has its own identity, written when it is made.
rm -f etc/ssh/ssh_host_* etc/machine-id etc/hostname
: > etc/resolv.conf

useradd() {{ chroot . useradd --create-home --shell /bin/bash "$1"; }}
for account in ops opspw nosudo; do useradd "$account"; done
echo 'opspw:{SUDO_PASSWORD}' | chroot . chpasswd
printf '%s\\n' 'ops ALL=(ALL) NOPASSWD: ALL' 'opspw ALL=(ALL) ALL' > etc/sudoers.d/lab
chmod 0440 etc/sudoers.d/lab
for home in {" ".join(ACCOUNTS.values())}; do
    mkdir -p -m 0700 "$home/.ssh"
    : > "$home/.ssh/authorized_keys"
    chown -R --reference="$home" "$home/.ssh"
done

# One host key: making an RSA key takes longer than the boot.
echo 'HostKey /etc/ssh/ssh_host_ed25519_key' > etc/ssh/sshd_config.d/lab.conf
# Without this sshd answers before logins are allowed (pam_nologin).
mkdir -p etc/systemd/system/ssh.service.d
printf '%s\\n' '[Unit]' 'After=systemd-user-sessions.service' > etc/systemd/system/ssh.service.d/lab.conf

chroot . systemctl enable systemd-networkd.service
chroot . systemctl mask getty.target console-getty.service systemd-pstore.service \\
    fstrim.timer dpkg-db-backup.timer apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer
rm -rf var/cache/apt/* var/lib/apt/lists/*
"""


def ensure(say: Callable[[str], None], codename: str) -> Path:
    """The folder of the base image of this Debian release, built if need be."""
    recipe = "\n".join([codename, platform.machine(), PACKAGES, _EXCLUDE, _CUSTOMIZE])
    base = IMAGES / f"{codename}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    if base.is_dir():
        return base
    IMAGES.mkdir(parents=True, exist_ok=True)
    IMAGES.chmod(0o700)  # a set-uid program of an image is one out here too
    with locked(IMAGES / "lock", BUILD_SECONDS, "another run has been building the base image"):
        if not base.is_dir():  # it may have been built while we waited
            for unfinished in IMAGES.glob("building-*"):  # by a run that was killed
                overlay.remove(unfinished)
            say(f"building the base image ({codename}; once)")
            _build(codename, base)
    return base


def release(base: Path) -> str:
    """The Debian release of an image, by its name."""
    return base.name.partition("-")[0]


def _build(codename: str, base: Path) -> None:
    """``base`` appears under its name when it is complete, and not at all when anything fails."""
    work = Path(tempfile.mkdtemp(prefix="building-", dir=IMAGES))
    try:
        root = bootstrap(codename, PACKAGES, _CUSTOMIZE, work)
        os.sync()  # dpkg was told not to; a half-written base would outlive a crash under its name
        root.rename(base)
    finally:
        overlay.remove(work)


def bootstrap(codename: str, packages: str, customize: str, work: Path) -> Path:
    """The root folder, in ``work``, of a Debian of these packages (parted by commas).

    ``customize`` is a shell script that gets the folder as its argument when all of them are in.
    """
    files = {
        **debian.sources(codename),
        "apt.conf": debian.acquire_settings(),
        "dpkg.cfg": _EXCLUDE,
        "customize.sh": customize,
    }
    for name, text in files.items():
        (work / name).write_text(text)
    lists = [work / name for name in files if name.startswith("lab.")]
    merge = [f"--hook-directory={_MERGED_USR}"] if _MERGED_USR.is_dir() else []
    argv: list[str | Path] = [
        *_CONTAINED,
        *("mmdebstrap", "--mode=root", "--variant=essential", "--format=directory"),
        *(f"--include={packages}", f"--aptopt={work}/apt.conf"),
        *merge,
        f'--setup-hook=cp {work}/dpkg.cfg "$1/etc/dpkg/dpkg.cfg.d/lab"',
        f'--customize-hook=sh {work}/customize.sh "$1"',
        codename,
        work / "root",
        *lists,
    ]
    run(argv, log=work.parent / "build.log", seconds=BUILD_SECONDS)
    (work / "root").chmod(0o755)
    return work / "root"
