"""Reading a file of ours: whole, of this version, with the content that was written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from pipeline.core.errors import StoreForeign, StoreMissing, StoreSchema
from pipeline.core.provenance import SCHEMA, canonical
from pipeline.core.store.checksums import crc, digest, entry, piece_starts, rows_per_piece
from pipeline.core.store.contained import contents
from pipeline.core.store.failures import AGAIN, reading
from pipeline.core.store.mapped import MappedRows
from pipeline.core.store.ragged import Ragged, StoredRows, damaged
from pipeline.core.store.text import READABLE, attributes, get

# Arrow's strings, which pandas takes where pyarrow is installed, hold no file name that is not UTF-8.
pd.set_option("mode.string_storage", "python")

LISTING = ".contents"
SIGNATURE = b"\x89HDF\r\n\x1a\n"
CHECKED, UNCHECKED = (b"\2", b"\3"), (b"\0", b"\1")  # versions of a file's first block: with checksums throughout, and without
HEAD = 1 << 16  # bytes


class Reader:
    """Reads one file; use through `open_store`. Errors of every method: StoreDamaged for values that are not those written, StoreSchema."""

    def __init__(self, file: h5py.File, path: Path) -> None:
        self._file, self.path = file, path
        names, elsewhere = contents(file)  # before anything is read: what lies elsewhere may never answer
        if elsewhere:
            raise damaged(path, elsewhere)
        stored = attributes(file)
        if "digest" not in stored or LISTING not in names:
            raise damaged(path, "the file was never finished")
        self.digest = str(stored.pop("digest"))
        listing = _bytes(file[LISTING])
        if digest(stored, listing) != self.digest:
            raise damaged(path, "the attributes changed since they were written")
        self.attrs: dict[str, Any] = {k: _attribute(v) for k, v in stored.items()}
        known = json.loads(listing)
        self._arrays: dict[str, list] = known["arrays"]
        self._groups: dict[str, Any] = known["groups"]
        if sorted(names) != sorted([*self._arrays, LISTING]):
            raise damaged(path, "it does not hold the arrays that were written")

    def __contains__(self, name: str) -> bool:
        return name in self._arrays or name in self._groups

    def names(self, prefix: str = "") -> list[str]:
        """The full names of every array below `prefix`."""
        return [name for name in self._arrays if name.startswith(f"{prefix}/".lstrip("/"))]

    def ragged(self, name: str, *, lazy: bool = False) -> Ragged:
        """A ragged group. With `lazy`, `values` stays on disk and is sliced on demand while the file is open."""
        self._check(name, "ragged")
        offsets = self.array(f"{name}/offsets")
        rows = self._rows(f"{name}/values", offsets, self.array(f"{name}/checksums"))
        data = Ragged(
            ids=[str(i) for i in self.array(f"{name}/ids")],
            offsets=offsets,
            values=rows if lazy else rows[:],
            columns=self._below(f"{name}/columns"),
            items=self._below(f"{name}/items"),
        )
        if problem := data.problem():
            raise damaged(self.path, f"{name}: {problem}")
        return data

    def table(self, name: str) -> pd.DataFrame:
        """A table as a DataFrame, columns in the order they were written."""
        self._check(name, "table")
        return pd.DataFrame({column: self.array(f"{name}/{column}") for column in self._groups[name]["columns"]})

    def array(self, name: str) -> np.ndarray:
        """A dense array; StoreSchema when it is absent."""
        if name not in self._arrays:
            raise StoreSchema(f"no array {name!r}; the file holds {self._top()}", where=self.path, fix=AGAIN)
        if self._arrays[name][2] is None:
            return np.asarray(self.ragged(name.removesuffix("/values")).values)
        with reading(self.path):
            dataset = self._dataset(name)
            values = get(dataset) if self._arrays[name][0] == "text" else np.asarray(dataset[...])
        if crc(values) != self._arrays[name][2]:
            raise damaged(self.path, f"{name} changed since it was written")
        return values

    def mapped(self, name: str) -> MappedRows:
        """A dense array, or the values of a ragged group (`<group>/values`), mapped: it may be read after the file is closed."""
        if name not in self._arrays:
            raise StoreSchema(f"no array {name!r}; the file holds {self._top()}", where=self.path, fix=AGAIN)
        checksum, group = self._arrays[name][2], name.removesuffix("/values")
        if checksum is None:
            starts = piece_starts(self.array(f"{group}/offsets"), rows_per_piece(self._arrays[name][1], np.dtype(self._arrays[name][0])))
            sums = self.array(f"{group}/checksums")
        else:
            starts, sums = np.array([0, self._arrays[name][1][0]]), np.array([checksum])

        def whole(rows: MappedRows) -> bool:
            return len(starts) == len(sums) + 1 and starts[-1] == len(rows) and _sound(rows, starts, sums)

        with reading(self.path):
            return MappedRows(self.path, self._dataset(name), whole, f"{self.path}: {name}")

    def verify(self) -> None:
        """Read everything there is. Errors: StoreDamaged at the first that is not what was written."""
        for name, group in self._groups.items():
            if group["kind"] == "ragged":
                for item in (data := self.ragged(name, lazy=True)).ids:
                    data[item]
        for name in self._arrays:
            if self._arrays[name][2] is not None:
                self.array(name)

    def _top(self) -> list[str]:
        return sorted({name.partition("/")[0] for name in self._arrays})

    def _below(self, prefix: str) -> dict[str, np.ndarray]:
        return {name.removeprefix(f"{prefix}/"): self.array(name) for name in self.names(prefix)}

    def _dataset(self, name: str) -> h5py.Dataset:
        """A data set of the type and shape that were written. The shape is compared before anything of that size is allocated."""
        dataset, known = self._file[name], self._arrays[name]
        if dataset.dtype.kind not in READABLE or entry(dataset.dtype, dataset.shape, known[2]) != known:
            raise damaged(self.path, f"{name} has another type or shape than was written")
        return dataset

    def _rows(self, name: str, offsets: np.ndarray, checksums: np.ndarray) -> StoredRows:
        with reading(self.path):
            dataset = self._dataset(name)
        starts = piece_starts(offsets, rows_per_piece(dataset.shape, dataset.dtype))

        def read(rows: slice) -> np.ndarray:
            with reading(self.path):
                return np.asarray(dataset[rows])

        if len(starts) != len(checksums) + 1 or starts[-1] != len(dataset):
            raise damaged(self.path, f"{name}: the offsets do not divide {len(dataset)} rows")
        return StoredRows(dataset.shape, dataset.dtype, read, starts, checksums, f"{self.path}: {name}")

    def _check(self, name: str, kind: str) -> None:
        if self._groups.get(name, {}).get("kind") != kind:
            raise StoreSchema(f"no {kind} {name!r}; the file holds {self._top()}", where=self.path, fix=AGAIN)


def _sound(rows: MappedRows, starts: np.ndarray, sums: np.ndarray) -> bool:
    """Whether every piece has its checksum. A piece that is not there (of an item without rows) has none."""
    return all(crc(rows.unchecked(slice(int(a), int(b)))) == known for (a, b), known in zip(pairwise(starts), sums, strict=True))


def _attribute(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in "[{":
        with suppress(json.JSONDecodeError):
            return json.loads(value)
    return value


def _bytes(dataset: h5py.Dataset) -> bytes:
    if dataset.dtype != np.uint8:
        raise TypeError(f"{dataset.name} is no list of bytes")
    return bytes(dataset[...].tobytes())


@contextmanager
def open_store(
    path: str | Path,
    *,
    stage: str | Sequence[str] | None = None,
    recipe_hash: str | None = None,
    recipe: Mapping[str, Any] | None = None,
    **expected: Any,
) -> Iterator[Reader]:
    """Open a file for reading, after checking that it is whole, ours, of this schema, and what is expected under this name.

    `stage`, `recipe_hash`, the values in `recipe` and any attribute in `expected` are compared with what the file says of itself, where
    it says it: a file of another shard, run or recipe is refused by its content.
    Errors: StoreMissing, StoreDamaged, StoreForeign, StoreSchema, each with what mends it.
    """
    path = Path(path)
    if not path.exists():
        raise StoreMissing("the file does not exist", where=path, fix="run the workflow again: it rebuilds what is missing")
    with reading(path):
        _ours(path)
        file = h5py.File(path, "r")
    with file:
        with reading(path):
            _version(file, path)
            reader = Reader(file, path)
        stages = [stage] if isinstance(stage, str) else stage
        if stages and reader.attrs["stage"] not in stages:
            wanted = " or ".join(map(repr, stages))
            raise StoreSchema(f"a {reader.attrs['stage']!r} file where {wanted} was expected", where=path, fix="check the path")
        for name, value in {"recipe_hash": recipe_hash, **expected}.items():
            if value is not None and reader.attrs.get(name, value) != value:
                raise StoreSchema(f"its {name} is {reader.attrs.get(name)!r}, expected was {value!r}", where=path, fix=AGAIN)
        made_by = reader.attrs["recipe"]
        if other := [name for name, value in (recipe or {}).items() if name in made_by and canonical(made_by[name]) != canonical(value)]:
            raise StoreSchema(f"made by another recipe than expected: {', '.join(other)}", where=path, fix=AGAIN)
        yield reader


def _ours(path: Path) -> None:
    """Refuse, before HDF5 opens it, what is no file of this format.

    In older formats the structure has no checksums, and damage there can make HDF5 search for ever. Ours were of those before schema 3;
    then the attribute's name is among the first bytes.
    """
    if not path.is_file():
        raise damaged(path, "no file, but a folder, a pipe or a device")
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head.startswith(SIGNATURE):
        raise OSError("the signature is not there")
    version = head[len(SIGNATURE) : len(SIGNATURE) + 1]
    if version in CHECKED:
        return
    if version not in UNCHECKED:
        raise OSError("it is of no version of HDF5")
    if b"prvr_schema" in head:
        raise StoreSchema(f"written by an earlier version, this one reads schema {SCHEMA}", where=path, fix=AGAIN)
    raise _foreign(path)


def _version(file: h5py.File, path: Path) -> None:
    """Refuse what is not of this version before anything else of it is read."""
    if "prvr_schema" not in file.attrs:
        raise _foreign(path)
    known = file.attrs.get_id("prvr_schema")
    schema = file.attrs["prvr_schema"] if known.dtype.kind in "iu" else "of another type"
    if schema != SCHEMA:
        raise StoreSchema(f"schema {schema}, this version reads {SCHEMA}", where=path, fix=AGAIN)


def _foreign(path: Path) -> StoreForeign:
    fix = "published bundles enter through `prvr import`; anything else: move it away"
    return StoreForeign("HDF5, but not written by prvr", where=path, fix=fix)


def content_digest(path: str | Path) -> str:
    """The digest over a file's attributes and all its checksums: equal for equal content, read without reading the arrays.

    Errors: those of `open_store`.
    """
    with open_store(path) as store:
        return store.digest
