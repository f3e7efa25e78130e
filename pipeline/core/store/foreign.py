"""Other people's HDF5: read one data set at a time, written one data set a name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from pipeline.core.errors import StoreDamaged, StoreForeign, StoreMissing
from pipeline.core.store.contained import contents, unreadable
from pipeline.core.store.failures import reading
from pipeline.core.store.text import get
from pipeline.core.store.writer import write, writing

_AGAIN = "download or copy the file again"
_INSIDE = "write the values into the file itself, as numbers, or ask its publisher for such a file"


class Foreign(Mapping[str, np.ndarray]):
    """The datasets of somebody else's HDF5 file by full name, read one at a time; use through `open_foreign`.

    Published bundles hold one dataset per video or caption; `peek` reads the shape and type without the values.
    Errors: StoreDamaged; StoreForeign for values of variable length, whose place in the file can be anything.
    """

    def __init__(self, file: h5py.File, path: Path, names: list[str]) -> None:
        self._file, self._path, self._names = file, path, dict.fromkeys(names)

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        with reading(self._path, _AGAIN):
            dataset = self._file[name]
            if dataset.dtype.hasobject:
                raise StoreForeign(f"{name}: values of type {dataset.dtype}, numbers expected", where=self._path, fix=_INSIDE)
            return get(dataset) if dataset.dtype.kind == "S" else np.asarray(dataset[...])

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def peek(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and dtype of one dataset."""
        with reading(self._path, _AGAIN):
            return self._file[name].shape, self._file[name].dtype


@contextmanager
def open_foreign(path: str | Path) -> Iterator[Foreign]:
    """Open an HDF5 file that prvr did not write.

    Errors: StoreMissing, StoreDamaged; StoreForeign for a file that points at other files: anything on this machine could become a feature.
    """
    path = Path(path)
    if not path.exists():
        raise StoreMissing("the file does not exist", where=path, fix="check the path of the bundle")
    if problem := "no file, but a folder, a pipe or a device" if not path.is_file() else unreadable(path):
        raise StoreDamaged(problem, where=path, fix=_AGAIN)
    with reading(path, _AGAIN):
        file = h5py.File(path, "r")
    with file:
        with reading(path, _AGAIN):
            names, elsewhere = contents(file)
        if elsewhere:
            raise StoreForeign(elsewhere, where=path, fix=_INSIDE)
        yield Foreign(file, path, names)


@contextmanager
def create_foreign(path: str | Path) -> Iterator[Callable[[str, np.ndarray], None]]:
    """Write a plain HDF5 file, one dataset per name, atomically: yields `put(name, array)`. Errors: DiskError."""
    with writing(path) as (file, check):

        def put(name: str, array: np.ndarray) -> None:
            write(file, name, array)
            check()

        yield put
