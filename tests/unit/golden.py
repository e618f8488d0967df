"""Files of tests/golden: what is rendered must be what stands there, byte for byte.

After a change that is meant: ETCDOPS_GOLDEN=write .venv/bin/pytest tests/unit, then read the difference in git.
"""

from __future__ import annotations

import os
from pathlib import Path

GOLDEN = Path(__file__).parent.parent / "golden"


def check(name: str, content: bytes) -> None:
    """``content`` is that of tests/golden/``name``."""
    path = GOLDEN / name
    if os.environ.get("ETCDOPS_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert path.exists(), f"no tests/golden/{name}; ETCDOPS_GOLDEN=write makes it"
    assert content.decode() == path.read_text(encoding="utf-8")
