"""Where large arrays lie: in memory as long as a job has room for them there, else in files that are mapped into it."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from pipeline.core.notices import say

SHARE = 0.6  # of the free memory, where no setting says how much
GIGA = 1e9
PIECE = 2**17  # bytes of a file that are asked for at once: of more the system may read a part only
BLOCK = 2**30  # bytes of one matrix of scores that is in memory at once


class Room:
    """What a job may keep in memory of the videos it works on, and a folder on a disk for what it may not.

    `gigabytes` None: a share of what is free now. The files have no name, so they are gone with the job, however it ends.
    """

    def __init__(self, folder: Path, gigabytes: float | None = None) -> None:
        self.folder = folder
        self.left = SHARE * psutil.virtual_memory().available if gigabytes is None else GIGA * gigabytes

    def fits(self, size: float) -> bool:
        """Whether `size` bytes fit beside what was taken."""
        return size <= self.left

    def take(self, what: str, size: float) -> bool:
        """Whether arrays of `size` bytes that stay are kept in memory; says so where they are not."""
        if not self.fits(size):
            at = f"files of {self.folder}"
            say(f"warning: {what} ({size / GIGA:.1f} GB) do not fit into {self.left / GIGA:.1f} GB of memory; they are read from {at}")
            return False
        self.left -= size
        return True

    def mapped(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array of zeros in a file of the folder. Errors: OSError where the disk has no place, which would end the process later."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.folder) as file:
            os.posix_fallocate(file.fileno(), 0, math.prod(shape) * np.dtype(dtype).itemsize)
            return np.memmap(file, dtype, "w+", shape=shape)


def want(array: np.ndarray, rows: Iterable[int]) -> None:
    """Have the disk read some rows of a mapped array, all of them at once; they are waited for where they are used.

    Left to its faults the system reads one row after the other, each with as much around it as it reads ahead.
    """
    mapping, size = array.base, array[:1].nbytes
    assert isinstance(mapping, mmap.mmap)
    for row in rows:
        for start in range(row * size // mmap.PAGESIZE * mmap.PAGESIZE, (row + 1) * size, PIECE):
            mapping.madvise(mmap.MADV_WILLNEED, start, min(PIECE, (row + 1) * size - start))
