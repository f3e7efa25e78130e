"""Items of different lengths, stored flat, in memory or on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import StoreDamaged
from pipeline.core.store.checksums import crc
from pipeline.core.store.failures import AGAIN


@dataclass
class Ragged:
    """Items of different lengths, stored flat.

    Shapes: `values` [N, ...]; `offsets` [n+1] int64, item i is rows offsets[i]:offsets[i+1]; `columns[name]` [N, ...] per row;
    `items[name]` [n, ...] per item. Source: docs/decisions.md (flat + offsets reads 5x faster than one dataset per video).
    """

    ids: list[str]
    offsets: np.ndarray
    values: Any  # an array, or `StoredRows`
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    items: dict[str, np.ndarray] = field(default_factory=dict)
    _index: dict[str, int] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self.index

    @property
    def index(self) -> dict[str, int]:
        """id -> position."""
        if len(self._index) != len(self.ids):
            self._index = {item: i for i, item in enumerate(self.ids)}
        return self._index

    def rows(self, item_id: str) -> slice:
        """The rows of one item; KeyError when it is not stored."""
        i = self.index[item_id]
        return slice(int(self.offsets[i]), int(self.offsets[i + 1]))

    def __getitem__(self, item_id: str) -> np.ndarray:
        return np.asarray(self.values[self.rows(item_id)])

    def damaged(self) -> list[str]:
        """The items that are no longer what was written. Values in memory were checked when they were read."""
        return [item for item in self.ids if isinstance(self.values, StoredRows) and not self.values.sound(self.rows(item))]

    def problem(self) -> str:
        """What does not belong together, in words; empty when all does."""
        rows, items = len(self.values), len(self.ids)
        offsets = np.asarray(self.offsets)
        if offsets.shape != (items + 1,) or offsets[0] != 0 or offsets[-1] != rows or (np.diff(offsets) < 0).any():
            return f"the offsets do not divide {rows} rows among {items} items"
        if len(set(self.ids)) != items:
            return "an id stands there twice"
        wrong = [k for k, v in self.columns.items() if len(v) != rows] + [k for k, v in self.items.items() if len(v) != items]
        return f"{', '.join(wrong)}: another length than the values" if wrong else ""


class StoredRows:
    """Values that stay on disk: slices of rows are read on demand while the file is open, and compared with their checksums.

    Shapes: `starts` [pieces+1] first row of each piece, `checksums` [pieces]. Errors: StoreDamaged.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype,
        read: Callable[[slice], np.ndarray],
        starts: np.ndarray,
        checksums: np.ndarray,
        where: str,
    ) -> None:
        self.shape, self.dtype = shape, dtype
        self._read, self._starts, self._checksums, self._where = read, starts, checksums, where

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise IndexError("rows on disk are read one after the other")
        if stop <= start:
            return np.empty((0, *self.shape[1:]), self.dtype)
        first = int(np.searchsorted(self._starts, start, "right")) - 1
        last = int(np.searchsorted(self._starts, stop, "left"))
        low = int(self._starts[first])
        block = self._read(slice(low, int(self._starts[last])))
        for piece in range(first, last):
            part = block[self._starts[piece] - low : self._starts[piece + 1] - low]
            if crc(part) != self._checksums[piece]:
                raise damaged(self._where)
        return block[start - low : stop - low]

    def digest(self, rows: slice) -> str:
        """A digest of one item's values by its checksums, without reading them: equal for equal values. 16 hex digits."""
        first, last = np.searchsorted(self._starts, [rows.start, rows.stop], "left")
        known = np.asarray(self._checksums[first:last], np.uint32).tobytes()
        return hashlib.sha256(f"{self.dtype}{self.shape[1:]}{rows.stop - rows.start}".encode() + known).hexdigest()[:16]

    def sound(self, rows: slice) -> bool:
        """Whether rows can be read and are what was written."""
        try:
            self[rows]
        except StoreDamaged:
            return False
        return True

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


def damaged(where: Path | str, what: str = "values changed since they were written") -> StoreDamaged:
    """The error for content that is not what was written."""
    return StoreDamaged(what, where=where, fix=AGAIN)
