"""The file HDF5 writes into: a failed write is kept from it and raised here.

HDF5 cannot close a file on a full disk: what it could not write stays in its caches, each attempt to free them fails again, and the
process ends in a segmentation fault. So a failed write is reported to HDF5 as done and held in memory, the file closes as always, and
whoever writes is told by `check`. Same speed and the same bytes as HDF5's own driver (docs/decisions.md).
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from pipeline.core.errors import system_error


class Sink(io.RawIOBase):
    """A file object for h5py.File; a context manager that closes it. Errors: DiskError, LimitError or OSError, in `check` too."""

    def __init__(self, path: Path) -> None:
        self._path, self._position = path, 0
        self._failure: OSError | None = None
        self._held: list[tuple[int, bytes]] = []  # what the disk did not take, in the order it was written
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        except OSError as error:
            raise system_error(error) or error from error

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()

    def check(self) -> None:
        """Raise the first failure of a write."""
        if self._failure is not None:
            raise system_error(self._failure) or self._failure

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._end()}[whence]
        self._position = base + offset
        return self._position

    def _end(self) -> int:
        return max([os.fstat(self._descriptor).st_size, *(start + len(data) for start, data in self._held)])

    def tell(self) -> int:
        return self._position

    def write(self, data: Any, /) -> int:
        view, start = memoryview(data).cast("B"), self._position
        self._position += len(view)
        written = 0
        while written < len(view) and self._failure is None:
            try:
                written += os.pwrite(self._descriptor, view[written:], start + written)
            except OSError as error:
                error.filename = str(self._path)
                self._failure = error
        if written < len(view):
            self._held.append((start + written, bytes(view[written:])))
        return len(view)

    def readinto(self, buffer: Any, /) -> int:
        view, start = memoryview(buffer).cast("B"), self._position
        stored = os.pread(self._descriptor, len(view), start)
        view[: len(stored)] = stored
        view[len(stored) :] = bytes(len(view) - len(stored))
        for place, data in self._held:
            low, high = max(place, start), min(place + len(data), start + len(view))
            if low < high:
                view[low - start : high - start] = data[low - place : high - place]
        self._position += len(view)
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        size = self._position if size is None else size
        try:
            os.ftruncate(self._descriptor, size)
        except OSError as error:
            error.filename = str(self._path)
            self._failure = self._failure or error
        return size

    def flush(self) -> None:
        """Nothing is buffered here; `atomic.publish` syncs."""
