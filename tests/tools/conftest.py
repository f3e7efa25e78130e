"""A finished run that a tool is tried on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workflow.conftest import finished  # noqa: F401  (a fixture)
from tests.workflow.workspace import Workspace


@pytest.fixture
def work(
    finished: Workspace,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Workspace:
    """A finished run of 13 videos in two shards, in which a test may change things, and a user's cache of its own."""
    work = finished.copy(tmp_path / "work")
    monkeypatch.chdir(work.folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return work
