"""The lock of a run that cannot be seen from here."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core.atomic import write_json
from pipeline.core.errors import LockedError
from pipeline.jobs.interruption import STATE, unlock


def test_the_lock_of_a_run_on_another_host(tmp_path: Path) -> None:
    lock = tmp_path / STATE / "locks" / "0.output.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    write_json(tmp_path / STATE / "prvr-run.json", {"host": "elsewhere", "pid": 1, "started": 0.0, "local": True})
    with pytest.raises(LockedError, match="look there whether it still runs; if not: `prvr unlock --force`"):
        unlock(tmp_path)
    assert lock.exists()
    assert "unlocked; it was held by process 1 on elsewhere" in unlock(tmp_path, force=True)
    assert not lock.exists()
