"""A base box for vagrant-libvirt, made of Debian's packages: what the box of the Vagrantfile is like, without Vagrant's
own server.  It is built once for each recipe, and kept in the lab's cache.

A box is a tar of a disk, some words about it, and a Vagrantfile; Vagrant logs in as `vagrant` with a key that all the
world knows, and puts one of the machine's own in its place unless it is told not to.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
import tempfile
from pathlib import Path

from etcdops.lab import debian, image, overlay
from etcdops.lab.process import run
from etcdops.release import locked

BOXES = image.CACHE / "boxes"
SECONDS = 900  # to wait for another run that builds it
GIB = 3  # the size of its disk, most of which is a hole
SECTOR = 512
PARTITION = 2048  # sectors in front of it, for GRUB

PACKAGES = (
    "linux-image-cloud-amd64,systemd-sysv,dbus,udev,openssh-server,passwd,sudo,ifupdown,isc-dhcp-client,iproute2,kmod,"
    "netbase,procps,grub-pc-bin,grub2-common"
)

# Emulated on a busy machine, the kernel misses ticks of the timer that it tries, and units take their time.
PATIENT = "no_timer_check mitigations=off systemd.default_timeout_start_sec=600"

CUSTOMIZE = r"""
set -eu
cd "$1"
chroot . useradd --create-home --shell /bin/bash --user-group vagrant
install -d -m 700 home/vagrant/.ssh
echo 'KEY' >home/vagrant/.ssh/authorized_keys
chmod 600 home/vagrant/.ssh/authorized_keys
chroot . chown -R vagrant:vagrant /home/vagrant/.ssh
echo 'vagrant ALL=(ALL) NOPASSWD: ALL' >etc/sudoers.d/vagrant
chmod 440 etc/sudoers.d/vagrant

echo box >etc/hostname
printf '127.0.0.1\tlocalhost\n127.0.1.1\tbox\n::1\tlocalhost\n' >etc/hosts
echo 'LABEL=root / ext4 rw,noatime 0 1' >etc/fstab
printf '%s\n' 'source /etc/network/interfaces.d/*' 'auto lo' 'iface lo inet loopback' \
    'allow-hotplug eth0' 'iface eth0 inet dhcp' >etc/network/interfaces
rm -f etc/resolv.conf
: >etc/machine-id

# Emulated, three kinds of host keys take 12 s of the boot.
rm -f etc/ssh/ssh_host_*
printf '%s\n' 'HostKey /etc/ssh/ssh_host_ed25519_key' 'UseDNS no' 'GSSAPIAuthentication no' \
    >etc/ssh/sshd_config.d/vagrant.conf
cat >etc/systemd/system/host-key.service <<'END'
[Unit]
Description=SSH host key of this machine
Before=ssh.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key
[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key
[Install]
WantedBy=multi-user.target
END
chroot . systemctl enable host-key.service
chroot . systemctl set-default multi-user.target
chroot . systemctl mask e2scrub_reap.service e2scrub_all.timer apt-daily.timer apt-daily-upgrade.timer fstrim.timer \
    dpkg-db-backup.timer getty@tty1.service

mkdir -p boot/grub
cat >boot/grub/grub.cfg <<'END'
set timeout=0
search --no-floppy --label root --set=root
linux /vmlinuz root=LABEL=root ro net.ifnames=0 biosdevname=0 quiet PATIENT
initrd /initrd.img
boot
END
printf '%s\n' 'search --no-floppy --label root --set=root' 'set prefix=($root)/boot/grub' >boot/grub/early.cfg
chroot . grub-mkimage --format=i386-pc --prefix=/boot/grub --config=/boot/grub/early.cfg --output=/boot/grub/core.img \
    biosdisk part_msdos ext2 normal linux search search_label configfile
rm -rf var/cache/apt/* var/lib/apt/lists/*
"""


def ensure(codename: str, public_key: str) -> Path:
    """The box of this Debian release, which lets the owner of ``public_key`` in; built if need be (one minute)."""
    customize = CUSTOMIZE.replace("KEY", public_key).replace("PATIENT", PATIENT)
    recipe = "\n".join([codename, PACKAGES, customize, Path(__file__).read_text()])
    box = BOXES / f"{codename}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}.box"
    BOXES.mkdir(parents=True, exist_ok=True)
    with locked(BOXES / "lock", SECONDS, "another run has been building the box"):
        if not box.exists():
            debian.install_missing(print, {"mke2fs": "e2fsprogs", "qemu-img": "qemu-utils"})
            for unfinished in BOXES.glob("building-*"):  # by a run that was killed
                overlay.remove(unfinished)
            work = Path(tempfile.mkdtemp(prefix="building-", dir=BOXES))
            try:
                root = image.bootstrap(codename, PACKAGES, customize, work)
                pack(disk(root, work), work / "box").replace(box)
            finally:
                overlay.remove(work)
    return box


def disk(root: Path, work: Path) -> Path:
    """A disk that boots from ``root`` by a BIOS, as qcow2.  Nothing is mounted: mke2fs copies the folder."""
    raw, small = work / "disk.raw", work / "box.img"
    size = GIB << 30
    with raw.open("wb") as file:
        file.truncate(size)
    offset = PARTITION * SECTOR
    # GRUB of Debian 12 reads neither of these two features.
    features = ["-O", "^orphan_file,^metadata_csum_seed", "-E", f"offset={offset}"]
    run(
        ["mke2fs", "-q", "-t", "ext4", "-L", "root", *features, "-d", root, raw, f"{(size - offset) >> 10}k"],
        seconds=300,
    )
    with raw.open("r+b") as file:
        file.write((root / "usr/lib/grub/i386-pc/boot.img").read_bytes()[:440])
        # One entry of the table: active, Linux, from here to the end.
        entry = (0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", PARTITION, size // SECTOR - PARTITION)
        file.seek(446)
        file.write(struct.pack("<B3sB3sII", *entry))
        file.seek(SECTOR - 2)
        file.write(b"\x55\xaa" + (root / "boot/grub/core.img").read_bytes())
    run(["qemu-img", "convert", "-O", "qcow2", "-c", raw, small], seconds=600)
    return small


def pack(image_: Path, box: Path) -> Path:
    """The tar that `vagrant box add` takes."""
    words = {
        "metadata.json": json.dumps({"provider": "libvirt", "format": "qcow2", "virtual_size": GIB}),
        "Vagrantfile": 'Vagrant.configure("2") {}\n',
    }
    with tarfile.open(box, "w") as tar:
        for name, text in words.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
        tar.add(image_, "box.img")
    return box
