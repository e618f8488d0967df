"""The rule about backups: that there is one, and that it is new."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from etcdops import schedule
from etcdops.checkup.findings import Finding, Picture, told

OLD = timedelta(hours=25)  # of the newest one, where nothing says how often there should be one: a day, and some grace


def backup(picture: Picture) -> Iterator[Finding]:
    """No backup, or an old one; a schedule that is not kept."""
    if picture.is_bare:
        return
    report = schedule.judge({name: fact.view for name, fact in picture.facts.items()})
    if report:
        yield from told(report.reasons, picture, "inv backup for now; journalctl -u etcdops-backup there", "warning")
    if picture.shut:
        yield Finding("warning", f"the store cannot be looked into: {picture.shut}", hint=picture.shut.hint)
        return
    if report:
        return  # what is scheduled is enough; another one by hand in the store is not asked for
    if picture.backup is None:
        yield Finding("warning", f"there is no backup in {picture.store}", hint="inv backup; or inv snapshot.schedule")
        return
    age = picture.now - picture.backup.taken
    if age > OLD:
        text = f"the newest backup in {picture.store} is {schedule.span(age)} old"
        yield Finding("warning", text, hint="inv backup; in cron, or inv snapshot.schedule")


def newest(picture: Picture) -> str:
    if picture.is_bare:
        return ""
    report = schedule.judge({name: fact.view for name, fact in picture.facts.items()})
    parts = [str(report).removeprefix("backup: ")] if report else []
    if picture.backup:
        parts.append(f"{schedule.span(picture.now - picture.backup.taken)} ago in {picture.store}")
    return "; ".join(parts)
