"""restart: every member in turn, the leader last."""

from __future__ import annotations

import time

from etcdops import gate, guards
from etcdops.errors import Refused
from etcdops.judgement import judge
from etcdops.run import Run
from etcdops.steps import canary
from etcdops.steps.service import look
from etcdops.steps.turn import turn, turns


def restart(run: Run) -> None:
    """Restart every member, one at a time, the leader last, each between two looks at the whole cluster."""
    began = time.monotonic()
    facts = look(run)
    guards.refuse(guards.split(facts))
    views = {name: fact.view.but_for_nospace() for name, fact in facts.items()}
    verdict = judge(run.config, views)
    if not verdict:
        hint = verdict.ways("inv start", "then the same again")
        raise Refused(f"nothing was restarted: {'; '.join(verdict.reasons)}", hint=hint)
    order = sorted(run.names, key=lambda name: views[name].leads)
    if run.decided(f"{name}  systemctl restart etcd" for name in order):
        return
    with canary.alongside(run) as bird:
        for name, rest in turns(run, order):
            run.ui.step(f"Restart {name}")
            turn(run, name, rest)
        gate.same_data(run, gate.pass_through(run))
    seconds = time.monotonic() - began
    run.emit(
        {"restarted": order, "seconds": round(seconds, 1), "canary": bird.report().document if bird else None},
        lambda: run.ui.result(f"{len(order)} members restarted and healthy in {seconds:.1f} s"),
    )
