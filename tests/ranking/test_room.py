"""What a job keeps in memory is used up by what stays there; the rest lies in files that no kill leaves behind."""

import errno
import mmap
import os
from pathlib import Path

import numpy as np
import psutil
import pytest

from pipeline.core.errors import DiskError, system_error
from pipeline.ranking.room import PIECE, Room, want


def test_what_stays_takes_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    room = Room(tmp_path, gigabytes=1.0)
    assert room.take("the first", 0.6e9)
    assert not room.take("the second", 0.5e9)
    assert (
        f"warning: the second (0.5 GB) do not fit into 0.4 GB of memory; they are read from files of {tmp_path}" in capsys.readouterr().err
    )
    assert [room.fits(size) for size in (0.5e9, 0.39e9)] == [False, True]
    assert room.take("the third", 0.3e9)
    assert not room.fits(0.39e9)


def test_by_default_a_share_of_what_is_free(tmp_path: Path) -> None:
    room, machine = Room(tmp_path), psutil.virtual_memory().total
    assert room.fits(1e6)
    assert not room.fits(0.61 * machine)


def test_a_mapped_array_is_zero_and_its_file_has_no_name(tmp_path: Path) -> None:
    array = Room(tmp_path / "folder").mapped((3, 5), "f4")
    assert not array.any()
    array[1] = 7
    assert array.sum() == 35
    assert list((tmp_path / "folder").iterdir()) == []


class Told(mmap.mmap):
    """A mapping that remembers what it was told."""

    def madvise(self, option: int, start: int = 0, length: int = 0) -> None:
        assert option == mmap.MADV_WILLNEED
        assert start % mmap.PAGESIZE == 0
        asked.append((start, start + length))
        super().madvise(option, start, length)


asked: list[tuple[int, int]] = []


def test_rows_are_asked_for_in_pieces_and_nothing_else_is() -> None:
    asked.clear()
    array = np.ndarray((9, 40_000), np.float64, buffer=Told(-1, 9 * 320_000))
    want(array, [7, 0, 8])
    pages = {byte for start, end in asked for byte in range(start // mmap.PAGESIZE, -(-end // mmap.PAGESIZE))}
    wanted = [(row * 320_000, (row + 1) * 320_000) for row in (0, 7, 8)]
    assert pages == {page for start, end in wanted for page in range(start // mmap.PAGESIZE, -(-end // mmap.PAGESIZE))}
    assert max(end - start for start, end in asked) <= PIECE


def test_a_disk_without_a_place_for_an_array_is_an_error_before_anything_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, start: int, size: int) -> None:
        assert (start, size) == (0, 3 * 5 * 2)
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="full") as raised:
        Room(tmp_path).mapped((3, 5), "f2")
    assert isinstance(system_error(raised.value), DiskError)
