"""Killed at random moments and started again, the workflow ends with the results of an undisturbed run."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.workflow.workspace import Workspace

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("PRVR_KILLS", "5"))


def digests(work: Workspace) -> dict[str, str]:
    """Every HDF5 result and the tables, by path."""
    files = [p for p in work.results.rglob("*.h5") if "frames" not in p.parts] + [
        work.results / "table.md",
        work.results / "quarantine.tsv",
    ]
    return {str(p.relative_to(work.results)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_killed_at_random_moments(finished: Workspace, tmp_path: Path) -> None:
    work = finished.copy(tmp_path / "work")
    shutil.rmtree(work.folder / "results")
    shutil.rmtree(work.folder / ".snakemake")
    moment = random.Random(11)
    for _ in range(KILLS):
        run = subprocess.Popen(
            work.command(), cwd=work.folder, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            run.wait(timeout=moment.uniform(3, 25))
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
        # The lock of a run that is gone is the one thing the next run asks for.
        work.snakemake("--unlock")
    work.snakemake()
    assert digests(work) == digests(finished)
    leftovers = [p for p in work.results.rglob(".*") if p.name.endswith((".tmp", ".parts"))]
    assert leftovers == []


def test_ctrl_c_ends_within_seconds(finished: Workspace, tmp_path: Path) -> None:
    work = finished.copy(tmp_path / "work")
    shutil.rmtree(work.results / "runs")
    work.config["training"].update(epochs=500, patience=500)
    work.write()
    run = subprocess.Popen(work.command(), cwd=work.folder, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    last = work.results / "runs"
    deadline = time.monotonic() + 90
    while not list(last.rglob("last.h5")) and time.monotonic() < deadline:
        time.sleep(0.2)
    asked = time.monotonic()
    os.killpg(run.pid, signal.SIGINT)
    run.wait(timeout=60)
    assert run.returncode != 0
    assert time.monotonic() - asked < 30
    assert not (work.folder / ".snakemake" / "locks").exists() or not list((work.folder / ".snakemake" / "locks").iterdir())
