"""Finished runs of the small world, made once and copied by the tests."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.workflow.workspace import Workspace, demo_config, small

OWN_TERMINAL = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"


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


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts the workflow in a process group of its own, which is gone after the test."""
    runs: list[subprocess.Popen] = []

    def begin(work: Workspace, *args: str, terminal: int = subprocess.DEVNULL, before: Sequence[str] = ()) -> subprocess.Popen:
        places = dict.fromkeys(("stdin", "stdout", "stderr"), terminal)
        command, environment = [*before, *work.command(*args)], {**os.environ, **work.env}
        if terminal != subprocess.DEVNULL:
            command = [sys.executable, "-c", OWN_TERMINAL, *command]
        runs.append(subprocess.Popen(command, cwd=work.folder, env=environment, start_new_session=True, **places))
        return runs[-1]

    yield begin
    for run in runs:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
