"""A file under its final name is whole, whoever else writes it and whatever goes wrong."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core import atomic


def _rewrite(path: Path, letter: str, times: int) -> None:
    for _ in range(times):
        atomic.write_text(path, letter * 5000)


def test_several_processes_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=_rewrite, args=(path, letter, 40)) for letter in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
        assert writer.exitcode == 0
    assert path.read_text() in ("a" * 5000, "b" * 5000)
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_keeps_the_file_before_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    atomic.write_json(path, {"SumR": 1})
    with pytest.raises(ZeroDivisionError), atomic.replacing(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == '{\n "SumR": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    say_pid = "import os; print(os.getpid())"
    gone = subprocess.run([sys.executable, "-c", say_pid], capture_output=True, text=True, check=True).stdout.strip()
    orphan, other = tmp_path / f".a.h5.{atomic.HOST}-{gone}.tmp", tmp_path / f".b.h5.{atomic.HOST}-{gone}.tmp"
    alive, elsewhere = tmp_path / f".a.h5.{atomic.HOST}-{os.getppid()}.tmp", tmp_path / f".a.h5.node17-{gone}.tmp"
    old = tmp_path / f".a.h5.node18-{gone}.tmp"
    for file in (orphan, other, alive, elsewhere, old):
        file.write_text("cut short")
    os.utime(old, (0, 0))
    with atomic.replacing(tmp_path / "a.h5") as temporary:
        temporary.write_text("whole")
    assert not orphan.exists()
    assert not old.exists()
    assert other.exists(), "of another file"
    assert alive.exists(), "its writer is at work"
    assert elsewhere.exists(), "its writer may be at work on another host"
