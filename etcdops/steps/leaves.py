"""rotate-certs: every leaf anew, whatever its age, without a restart; and how new leaves reach members that serve."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from etcdops import gate, guards
from etcdops.errors import Refused, Unhealthy
from etcdops.facts import HostFacts
from etcdops.judgement import judge
from etcdops.plan import Change
from etcdops.run import Run
from etcdops.steps import delivery, ports
from etcdops.steps.certificates import require_tls
from etcdops.steps.converge import decide, rehearse, survey

STEPS = ("distribute",)


def rotate_certs(run: Run) -> None:
    """A new leaf for each role of each member, and for the operator; done when every port shows the new one.

    What says that it is under way is in pki.dir, until then: any run goes on from there, and issues none twice.
    """
    began, now = time.monotonic(), datetime.now(UTC)
    require_tls(run)
    run.ui.step(f"Look at {', '.join(run.names)}")
    facts = survey(run)
    if not any(fact.has_data for fact in facts.values()):
        raise Refused("there is no cluster here yet", hint="inv deploy makes one, and its certificates")
    guards.refuse(finding for fact in facts.values() for finding in guards.plain_peers(fact))
    keystore = run.__dict__["keystore"] = run.keystore.to_rotate(now)
    decision = decide(run, facts, STEPS)
    guards.refuse(ports.unseen(run))
    if run.dry_run:
        rehearse(run, decision)
        return
    run.decided(decision.told(run.config.pki.dir))
    keystore.rotate(run.config.members, now)
    delivery.issue(run)
    hand_out(run, facts, decide(run, facts, STEPS).changes)
    keystore.rotated()
    run.ui.result(
        f"done in {time.monotonic() - began:.1f} s: every certificate is new, and both ports of "
        f"{len(facts)} members show theirs"
    )


def hand_out(run: Run, facts: Mapping[str, HostFacts], changes: Mapping[str, Sequence[Change]]) -> None:
    """Put each member's leaves on its host; done when each shows them.

    One member after the other where the cluster is healthy, and it has to be so in between.  One that is not may be so
    for want of these very leaves, and a member without a leader answers no client: all get theirs, and are seen then.
    """
    turns = [[name] for name in changes]
    if not judge(run.config, {name: fact.view.but_for_nospace() for name, fact in facts.items()}):
        turns = [list(changes)]
    for names in turns:
        due = {name: changes[name] for name in names if changes[name]}
        if due:
            run.safe_point()
            run.ui.step(f"Change {', '.join(due)}")
            run.ui.changes(due)
            delivery.push(run, due, {})
        idle = [name for name in names if not facts[name].is_running]
        if idle:
            raise Unhealthy(
                f"the certificates are in place, and not proven: etcd does not run on {', '.join(idle)}",
                hint=f"inv start; then {run.command}, which proves them and issues no others",
            )
        gate.pass_through(run, look=gate.ask_but_for_nospace)
        ports.prove(run, lambda host: ports.amiss(run, host), *names)
