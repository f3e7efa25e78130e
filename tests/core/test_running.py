"""A job's record: written while it works, cheap, gone with it, and never believed of a job that is dead."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from pipeline.core import running
from pipeline.core.atomic import HOST
from pipeline.core.progress import Meter
from pipeline.core.running import Running

JOB = """
import sys, time
from pathlib import Path
from pipeline.core import running
from pipeline.core.progress import Meter
running.begin(Path(sys.argv[1]), "train", {"experiment": "main", "seed": "1"})
with Meter(10, "train", "batch") as meter:
    meter.done = 4
    for _ in range(3):
        meter.update(1, "epoch 2/5, loss 0.5")
    time.sleep(float(sys.argv[2]))
"""


def started(folder: Path, seconds: float) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", JOB, str(folder), str(seconds)], stderr=subprocess.DEVNULL)


@pytest.fixture
def job(tmp_path: Path) -> Iterator[subprocess.Popen]:
    child = started(tmp_path / "r", 60)
    yield child
    child.kill()
    child.wait()


def shown(folder: Path) -> Running:
    """The one record, once its job counts."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        jobs = running.running(folder)
        if jobs and jobs[0].label:
            return jobs[0]
        time.sleep(0.05)
    raise AssertionError("no record")


def test_a_job_is_shown_while_it_works_and_not_after(tmp_path: Path) -> None:
    child = started(tmp_path / "r", 2)
    record = shown(tmp_path / "r")
    assert re.fullmatch(r"train main 1: 7/10 batches, [\d.]+ batches/s, \d:\d\d left, epoch 2/5, loss 0.5", record.line)
    assert (record.done, record.total, record.host, record.pid) == (7, 10, HOST, child.pid)
    assert record.rate > 0
    assert record.left == pytest.approx(3 / record.rate, rel=0.01)
    child.wait()
    assert list((tmp_path / "r").iterdir()) == []


@pytest.mark.parametrize("tidy", [False, True])
def test_a_killed_job_is_not_shown(tmp_path: Path, job: subprocess.Popen, tidy: bool) -> None:
    shown(tmp_path / "r")
    job.kill()  # a zombie until it is waited for
    deadline = time.monotonic() + 10
    while running.running(tmp_path / "r", tidy=tidy):
        assert time.monotonic() < deadline
    assert len(list((tmp_path / "r").glob("*.json"))) == (0 if tidy else 1)


def test_another_process_of_the_same_number_is_another_job(tmp_path: Path) -> None:
    """The system gives numbers of dead processes again: this one was started after the record's job began."""
    old = Running("train", {}, psutil.Process().create_time() - 100, HOST, os.getpid())
    (tmp_path / "a.json").write_text(json.dumps(asdict(old)))
    assert running.running(tmp_path) == []


def test_a_job_of_another_host_lives_by_its_beat(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(asdict(Running("train", {"seed": "1"}, time.time(), "node7-1", os.getpid()))))
    assert [job.host for job in running.running(tmp_path)] == ["node7-1"]
    os.utime(path, (time.time() - running.SILENCE - 5,) * 2)
    assert running.running(tmp_path) == []


def test_damaged_and_foreign_records_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "half.json").write_text('{"stage": "tr')
    (tmp_path / "later.json").write_text('{"stage": "train", "colour": 1}')
    assert running.running(tmp_path) == []


def test_a_folder_that_cannot_be_written_does_not_fail_the_job(tmp_path: Path) -> None:
    (tmp_path / "r").write_text("a file")
    assert started(tmp_path / "r", 0).wait() == 0


def test_watching_costs_the_work_less_than_a_hundredth(tmp_path: Path) -> None:
    """Processor time of the thread that writes, over five seconds of a job that gets on all the time."""
    running.begin(tmp_path, "train", {})
    try:
        thread = next(t for t in psutil.Process().threads() if t.id == running._mine.native_id)  # type: ignore[union-attr]
        before = thread.user_time + thread.system_time
        with Meter(None, "train", "batch") as meter:
            until = time.monotonic() + 5
            while time.monotonic() < until:
                meter.update(1, f"{time.monotonic()}")
                time.sleep(0.01)
        thread = next(t for t in psutil.Process().threads() if t.id == running._mine.native_id)  # type: ignore[union-attr]
        assert thread.user_time + thread.system_time - before < 0.05
    finally:
        running.end()
