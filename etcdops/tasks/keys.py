"""Keys and values, and etcdctl for all the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdops import steps
from etcdops.task import end, task

if TYPE_CHECKING:
    from etcdops.run import Run

HEX = "Keys stand in hexadecimal, here and in the result; in JSON the value, too."


@task(
    "json",
    help={
        "prefix": "Only keys that begin with this [all]",
        "limit": "At most so many; 0: all [100]",
        "after": "From the key that follows this one: the next page",
        "hex": HEX,
    },
)
def keys(run: Run, prefix: str = "", limit: int = 100, after: str = "", hex: bool = False) -> None:
    """List the names of keys."""
    steps.keys.keys(run, prefix, limit, after, in_hex=hex)


@task("json", bare=["key"], help={"key": "The key, as in: inv get /school/class/name", "hex": HEX})
def get(run: Run, key: str, hex: bool = False) -> None:
    """Print the value of a key."""
    steps.keys.get(run, key, in_hex=hex)


@task(
    "json",
    bare=["key", "value"],
    help={"key": "The key", "value": "Its value; - reads it from standard input", "hex": HEX},
)
def put(run: Run, key: str, value: str, hex: bool = False) -> None:
    """Set a key: inv put /school/class/name helios."""
    steps.keys.put(run, key, value, in_hex=hex)


@task("json", bare=["key"], name="del", help={"key": "The key", "hex": HEX})
def del_(run: Run, key: str, hex: bool = False) -> None:
    """Delete a key."""
    steps.keys.delete(run, key, in_hex=hex)


@task(words=True)
def etcdctl(run: Run) -> None:
    """Run any etcdctl command: inv etcdctl -- member list.

    On the first host that answers, with the endpoints of all members and the certificates filled in. Output and exit
    code are etcdctl's.
    """
    end(steps.keys.etcdctl(run))
