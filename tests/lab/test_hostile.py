"""What a shell or systemd would take for something else, through all of a cluster's life on real hosts, unharmed."""

from __future__ import annotations

import shutil

from tests.hosts import VERSION, Hosts
from tests.lab.conftest import NewProject
from tests.lab.test_deploy import settled

WORST = '-x it\'s "a" $(touch pwned) `touch pwned`; touch pwned & $HOME \\ ~ * ? # = {0} Zoë 漢'
PWNED = "find / -xdev -name 'pwned*' -not -path '/proc/*'; true"


def test_names_and_values(project: NewProject, hosts: Hosts) -> None:
    new = project()
    folder = new.folder / WORST.replace("/", "")
    folder.mkdir()
    for name, path in {"key": "lab/id_ed25519", "known": "lab/known_hosts"}.items():
        (folder / f"{WORST} {name}").symlink_to(hosts.folder / path)
    (folder / f"{WORST}.tar.gz").symlink_to(hosts.archive(VERSION))
    new.folder = folder
    new.config["ssh"] |= {"key": f"{WORST} key", "known_hosts": f"{WORST} known"}
    new.config["cluster"] |= {
        "settings": {"host-whitelist": f'{WORST} "'},
        "unit": {"Unit": {"Description": WORST}},
    }
    new.config |= {"release": {"archive": f"{WORST}.tar.gz"}, "pki": {"dir": f"{WORST}.pki"}, "backup": {"dir": WORST}}
    new.write()
    new.inv("deploy").ok()
    environ = hosts.each("tr '\\0' '\\n' </proc/$(systemctl show -P MainPID etcd)/environ")
    for name, text in environ.items():
        assert f'ETCD_HOST_WHITELIST={WORST} "\n' in text, name
    assert set(hosts.each("systemctl show -P Description etcd").values()) == {WORST}
    settled(new)

    new.inv("put", f"--key={WORST}", f"--value={WORST}").ok()
    assert new.inv("get", f"--key={WORST}").ok().stdout == WORST
    name = new.inv("backup", "--json").ok().json()["name"]
    snapshot = folder / WORST / f"{name}.db"
    copy = folder / f"{WORST}.db"
    shutil.copy(snapshot, copy)
    new.inv("snapshot.verify", f"--snapshot={copy}", "--drill").ok()
    new.inv("restore", f"--snapshot={copy}", "--yes").ok()
    assert new.inv("get", f"--key={WORST}").ok().stdout == WORST
    assert set(hosts.each(PWNED).values()) == {""}
    assert not list(new.folder.parent.rglob("pwned*"))
