"""defrag: the guide's `defrag`, one member at a time, the leader last and not as the leader.

A member serves nobody while it rewrites its database, for as long as that takes: 20 s for a gigabyte.  etcdctl gives
up earlier, and etcd goes on (etcd-operations 3.13).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from etcdops import etcd, gate, layout
from etcdops.database import MIB, Database, quota
from etcdops.errors import HostError, OpsError, Refused
from etcdops.etcd import View
from etcdops.judgement import Views, judge
from etcdops.run import Run
from etcdops.ssh import Host
from etcdops.steps import leader

LONGEST = 3600.0  # seconds that a member may be away

LOOK = f"""
put quota "$(started ETCD_QUOTA_BACKEND_BYTES)"
put free "$(($(stat -f -c '%a * %S' -- {layout.DATA_DIR}/member/snap)))"
"""


def defrag(run: Run, member: str, *, force: bool) -> None:
    """Shrink the database of ``member``, or of every one, where it is worth it or with ``force``."""
    if member:
        run.config.member(member)
    found = databases(run, run.fleet.map(gate.ask_but_for_nospace))
    chosen = {name: database for name, database in found.items() if member in {"", name}}
    todo = [name for name, database in chosen.items() if force or database.worth]
    for name, database in chosen.items():
        if name not in todo:
            run.ui.line(f"{name}: {database}: not worth it")
    if not todo:
        run.ui.result("nothing to do; --force does it all the same")
        return
    shrink(run, found, todo)


def databases(run: Run, views: Views) -> dict[str, Database]:
    """The database of every member; ``Refused`` when the cluster is not healthy, but for a full quota."""
    verdict = judge(run.config, views)
    if not verdict:
        lost = [name for name, view in views.items() if not isinstance(view, View) or not view.has_quorum]
        ways = [f"if {name} is lost: inv replace-member {name}, or inv remove-member {name}, first" for name in lost]
        hint = verdict.ways("inv start", *ways) if len(lost) < etcd.quorum(len(views)) and lost else "inv status"
        raise Refused(f"the cluster is not healthy: {'; '.join(verdict.reasons)}", hint=hint)
    told = run.fleet.all(lambda host: host.client(layout.script("prelude", "client") + LOOK).stdout)
    return {name: parse(told[name], view) for name, view in views.items() if isinstance(view, View)}


def parse(text: str, view: View) -> Database:
    """The answer of the script above, and what the member says of itself."""
    values = dict(line.split("\t", 1) for line in text.splitlines() if "\t" in line)
    assert view.status
    return Database(view.status.db_size, view.status.db_in_use, quota(values["quota"]), int(values["free"]))


def shrink(run: Run, found: Mapping[str, Database], names: Sequence[str]) -> None:
    """Defragment ``names``, each between two looks at the whole cluster; a dry run tells."""
    tight = [
        OpsError(f"{found[n].free // MIB} MiB free on the disk, {found[n].need // MIB} MiB needed", host=n)
        for n in names
        if found[n].free < found[n].need
    ]
    if tight:
        raise Refused("nothing was defragmented", findings=tight, hint="free some space there: df /var/lib/etcd")
    if run.decided(f"{name}  etcdctl defrag: {found[name]}" for name in names):
        return
    if etcd.quorum(len(run.names)) == len(run.names):
        run.ui.warn("there is no quorum without the member that is at it: writes wait meanwhile")
    views = gate_open(run, run.patience)
    for name in run.turns(sorted(names, key=lambda each: views[each].leads), "defragmented"):
        run.ui.step(f"Defragment {name}")
        run.ui.result(f"{name}: {_one(run, name)}")


def gate_open(run: Run, seconds: float) -> Mapping[str, View]:
    """What every member says, once the cluster is healthy but for a full quota; ``Unhealthy`` if it does not get so."""
    return gate.pass_through(run, look=gate.ask_but_for_nospace, seconds=seconds)


def _one(run: Run, name: str) -> str:
    views = gate_open(run, run.patience)
    if views[name].leads and len(run.names) > 1:
        leader.hand_over(run, views, name, leader.furthest(run, views, name))
        views = gate_open(run, run.patience)
    before = views[name].status
    assert before
    began = time.monotonic()
    finished = run.fleet.all(lambda host: _defragment(host, before.db_in_use), [name])[name]
    if not finished:
        run.ui.warn(f"{name}: etcdctl gave up waiting, and etcd goes on; nothing else begins until it answers")
    after = gate_open(run, LONGEST)[name].status
    assert after
    seconds = time.monotonic() - began
    if not finished and after.db_size >= before.db_size:
        run.ui.warn(f"{name}: it answers, and is no smaller")
    return f"{before.db_size / MIB:.1f} MiB before, {after.db_size / MIB:.1f} MiB now; it took {seconds:.1f} s"


def _defragment(host: Host, used: int) -> bool:
    """False when etcdctl would not wait any longer."""
    patience = 60 + 20 * used / (1 << 30)
    script = layout.script("client") + '\nclient --command-timeout="$1s" defrag'
    done = host.client(script, f"{patience:.0f}", timeout=patience + 60, check=False)
    if done.rc != 0 and not any(said in done.stderr for said in (etcd.TIMED_OUT, "DeadlineExceeded", "timed out")):
        raise HostError(f"did not defragment: {etcd.reason(done.stderr, done.rc)}")
    return done.rc == 0
