"""Finished runs of the small world, made once and copied by the tests."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from tests.workflow.workspace import Workspace, demo_config, small


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The small demo world taken to the end, then read as a user's own videos. Do not change it: copy it.

    Test workers share one, whoever comes first makes it.
    """
    own = tmp_path_factory.getbasetemp()
    base = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "finished"
    base.mkdir(exist_ok=True)
    with (base / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = Workspace(base / "own", own_config(base)) if (base / "done").exists() else _make(base)
    made.seconds = float((base / "done").read_text())
    return made


def _make(base: Path) -> Workspace:
    demo = Workspace(base / "demo", small(demo_config()))
    demo.prvr("world", "--threads", "2")
    (base / "own" / "data").mkdir(parents=True)
    (demo.results / "world" / "videos").rename(base / "own" / "data" / "videos")
    (demo.results / "world" / "queries.csv").rename(base / "own" / "data" / "queries.csv")
    own = Workspace(base / "own", own_config(base))
    began = time.monotonic()
    own.snakemake()
    (base / "done").write_text(f"{time.monotonic() - began}")
    return own


def own_config(base: Path) -> dict:
    """The small world as a CSV and a folder."""
    config = small(demo_config())
    config.pop("demo")
    config["dataset"] = {"name": "mine", "kind": "own", "videos": "data/videos", "annotations": "data/queries.csv"}
    return config
