"""What the system refuses in the middle of a write (room, size, files, memory) ends in a typed error, with nothing left and no crash."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.atomic import write_text
from pipeline.core.errors import DiskError, LimitError, system_error
from pipeline.core.store import create, open_store

# Three files at once, as the frames stage writes them, of 36 MB together in chunks, then attributes, tables and the rest of the file.
WRITE = """
import resource, sys
from contextlib import ExitStack
import numpy as np
from pipeline.core.errors import PrvrError
from pipeline.core.store import create, create_foreign
kind, limit, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if limit:
    resource.setrlimit(getattr(resource, kind), (limit, limit))
try:
    with ExitStack() as stack:
        writers = [stack.enter_context(create(f"{folder}/{name}.h5", stage="frames")) for name in "abc"]
        for i in range(int(sys.argv[4])):
            for writer in writers:
                writer.append("frames", f"v{i}", np.full((20, 64, 64, 3), i, np.uint8), {"time": np.arange(20.0)}, {"text": "x" * 300})
        for writer in writers:
            writer.array("dense", np.zeros(30_000))
    print("whole")
except PrvrError as error:
    print(error.code, error.what)
"""


def run(root: Path, kind: str, limit: int, folder: Path, items: int = 50) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WRITE, kind, str(limit), str(folder), str(items)]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(place)], capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk is not allowed here (it needs root)")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("size", ["16k", "2m"])
def test_a_disk_that_fills_while_files_are_written(root: Path, small_disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(small_disk)], check=True)
    ended = run(root, "RLIMIT_FSIZE", 0, small_disk)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "DISK No space left on device\n", "")
    assert list(small_disk.iterdir()) == []


def test_a_disk_that_fills_with_the_last_bytes(root: Path, small_disk: Path, tmp_path: Path) -> None:
    """Every size around the one that is just enough: a whole file or none, never a short one."""
    assert run(root, "RLIMIT_FSIZE", 0, tmp_path, 1).stdout == "whole\n"
    needed = sum(-(-(tmp_path / f"{name}.h5").stat().st_size // 4096) for name in "abc")  # pages
    said = set()
    for pages in (needed - 2, needed - 1, needed):
        subprocess.run(["mount", "-o", f"remount,size={pages * 4096}", str(small_disk)], check=True)
        ended = run(root, "RLIMIT_FSIZE", 0, small_disk, 1)
        assert (ended.returncode, ended.stderr) == (0, "")
        for file in small_disk.iterdir():
            with open_store(file) as store:
                store.verify()
            file.unlink()
        said.add(ended.stdout)
    assert said == {"whole\n", "DISK No space left on device\n"}


@pytest.mark.parametrize("limit", [1000, 2_500_000])
def test_a_limit_on_the_size_of_files(root: Path, tmp_path: Path, limit: int) -> None:
    ended = run(root, "RLIMIT_FSIZE", limit, tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "DISK File too large\n", "")
    assert list(tmp_path.iterdir()) == []


def test_a_limit_on_open_files(root: Path, tmp_path: Path) -> None:
    with pytest.raises(LimitError, match="ulimit -n"):
        raise system_error(OSError(24, "Too many open files")) or AssertionError
    ended = run(root, "RLIMIT_NOFILE", 5, tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "LIMIT Too many open files\n")
    assert list(tmp_path.iterdir()) == []


def test_reading_under_a_limit_on_open_files_calls_no_file_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with create(tmp_path / "a.h5", stage="x") as writer:
        writer.array("a", np.zeros(3))
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(LimitError), open_store(tmp_path / "a.h5"):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_memory_is_a_limit_too() -> None:
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")):
        assert isinstance(system_error(error), LimitError)
    assert system_error(RuntimeError("another")) is None
    assert isinstance(system_error(OSError("unable to write (errno = 122, error message = 'Disk quota exceeded')")), DiskError)


@pytest.mark.parametrize("call", ["pwrite", "fsync", "ftruncate"])
def test_a_quota_that_is_used_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """No quota can be set here: the call that would meet it answers as one that is used up."""
    path = tmp_path / "a.h5"

    def refuse(*args: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(DiskError, match="Disk quota exceeded"), create(path, stage="x") as writer:
        writer.array("a", np.zeros(300_000))
    with pytest.raises(DiskError, match="Disk quota exceeded") if call == "fsync" else nullcontext():
        write_text(tmp_path / "b.txt", "text")
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == ([] if call == "fsync" else ["b.txt"])
