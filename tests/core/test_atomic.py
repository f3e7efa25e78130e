"""A file under its final name is whole, whoever else writes it and whatever goes wrong."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from pipeline import atomic


def _rewrite(path: Path, letter: str, times: int) -> None:
    for _ in range(times):
        atomic.write_text(path, letter * 5000, shared=True)


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
    orphan, other = tmp_path / ".a.h5.4711.tmp", tmp_path / ".b.h5.4711.tmp"
    for file in (orphan, other):
        file.write_text("cut short")
    with atomic.replacing(tmp_path / "a.h5") as temporary:
        temporary.write_text("whole")
    assert not orphan.exists()
    assert other.exists(), "another file's writer may be at work"
