"""Rows that stay on disk: mapped into memory as they lie in the file, so that what is read is the system's to keep or to drop."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path

import h5py
import numpy as np

from pipeline.core.store.ragged import damaged


class MappedRows:
    """The rows of one data set, mapped. They are compared with their checksums once, when the first of them is asked for.

    The mapping stays valid after the file is closed, replaced or removed. Shapes: [N, ...]. Errors of reading: StoreDamaged.
    """

    def __init__(self, path: Path, dataset: h5py.Dataset, check: Callable[[MappedRows], bool], where: str) -> None:
        self.shape, self.dtype = dataset.shape, dataset.dtype
        self._check, self._where, self._checked = check, where, False
        with path.open("rb") as file:
            # Private pages: torch takes an array only where it may be written to, and the file stays what it is.
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self._parts = [(row, self._array(memory, place, rows)) for row, place, rows in _places(dataset)]
        self._starts = np.array([row for row, _ in self._parts], dtype=np.int64)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def parts(self) -> Iterator[tuple[int, np.ndarray]]:
        """All rows in order, as they lie together on disk: the first row of each part, and the part."""
        self.check()
        yield from self._parts

    def __getitem__(self, rows: slice) -> np.ndarray:
        self.check()
        return self._slice(*rows.indices(len(self))[:2])

    def flat(self) -> MappedRows:
        """The same values with the first two axes as one. Shapes: [n, L, ...] -> [n * L, ...]."""
        each, made = self.shape[1], copy(self)
        made.shape = (self.shape[0] * each, *self.shape[2:])
        made._parts = [(row * each, part.reshape(-1, *part.shape[2:])) for row, part in self._parts]
        made._starts = self._starts * each
        made._check = lambda _: self._sound()
        return made

    def check(self) -> None:
        """Compare everything with its checksums, unless that is done."""
        if not self._sound():
            raise damaged(self._where)

    def _sound(self) -> bool:
        self._checked = self._checked or self._check(self)
        return self._checked

    def _slice(self, start: int, stop: int) -> np.ndarray:
        if stop <= start:
            return np.empty((0, *self.shape[1:]), self.dtype)
        found = []
        for place in range(int(np.searchsorted(self._starts, start, "right")) - 1, len(self._parts)):
            row, part = self._parts[place]
            if row >= stop:
                break
            found.append(part[max(0, start - row) : stop - row])
        return found[0] if len(found) == 1 else np.concatenate(found)

    def unchecked(self, rows: slice) -> np.ndarray:
        """Rows before they are compared, for who compares them."""
        return self._slice(*rows.indices(len(self))[:2])

    def _array(self, memory: mmap.mmap, place: int, rows: int) -> np.ndarray:
        count = rows * int(np.prod(self.shape[1:]))
        if place + count * self.dtype.itemsize > len(memory):
            raise damaged(self._where, "the file ends before its values do")
        return np.frombuffer(memory, self.dtype, count, place).reshape(rows, *self.shape[1:])


class HeldRows:
    """The same of rows that are in memory. Shapes: [N, ...]."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        self.shape, self.dtype, self.nbytes = values.shape, values.dtype, values.nbytes

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.values[rows]

    def parts(self) -> Iterator[tuple[int, np.ndarray]]:
        """All rows."""
        yield 0, self.values

    def flat(self) -> HeldRows:
        """As `MappedRows.flat`."""
        return HeldRows(self.values.reshape(-1, *self.values.shape[2:]))


def _places(dataset: h5py.Dataset) -> list[tuple[int, int, int]]:
    """Where the rows lie: the first row, the byte in the file and the number of rows of each stretch. Errors: StoreDamaged."""
    total, width = len(dataset), int(np.prod(dataset.shape[1:])) * dataset.dtype.itemsize
    if not total or not width:
        return []
    if dataset.chunks is None:
        place = dataset.id.get_offset()
        if place is None:
            raise damaged(dataset.file.filename, f"{dataset.name} has no values in the file")
        return [(0, place, total)]
    if dataset.chunks[1:] != dataset.shape[1:] or dataset.id.get_create_plist().get_nfilters():
        raise damaged(dataset.file.filename, f"{dataset.name} does not lie in the file as it was written")
    found: list[tuple[int, int, int]] = []
    infos = (dataset.id.get_chunk_info(i) for i in range(dataset.id.get_num_chunks()))
    for row, place in sorted((info.chunk_offset[0], info.byte_offset) for info in infos):
        rows = min(dataset.chunks[0], total - row)
        if found and found[-1][1] + found[-1][2] * width == place:
            found[-1] = (found[-1][0], found[-1][1], found[-1][2] + rows)
        else:
            found.append((row, place, rows))
    if sum(rows for _, _, rows in found) != total:
        raise damaged(dataset.file.filename, f"{dataset.name} lacks a part of its values")
    return found
