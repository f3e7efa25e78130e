"""The one HDF5 container of every stage: ragged arrays, tables and tensors with provenance, whole or not there at all.

A file under its final name is complete: it is written under a temporary name in the same folder, flushed, synced and renamed
(a killed HDF5 writer leaves a file that is unreadable or silently short). This is the only module that imports h5py.
Nothing in a file depends on the clock, so the same inputs give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from pipeline.core.atomic import replacing
from pipeline.core.errors import StoreDamaged, StoreForeign, StoreMissing, StoreSchema

SCHEMA = 1
_TEXT = h5py.string_dtype("utf-8")


def recipe_hash(recipe: Mapping[str, Any]) -> str:
    """The first 12 hex digits of the sha256 of a recipe's canonical JSON."""
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass
class Ragged:
    """Items of different lengths, stored flat.

    Shapes: `values` [N, ...]; `offsets` [n+1] int64, item i is rows offsets[i]:offsets[i+1]; `columns[name]` [N, ...] per row;
    `items[name]` [n, ...] per item. Source: docs/decisions.md (flat + offsets reads 5x faster than one dataset per video).
    """

    ids: list[str]
    offsets: np.ndarray
    values: np.ndarray
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


def _plain(array: Any) -> np.ndarray:
    """An array h5py can write: strings become variable-length UTF-8 objects."""
    array = np.asarray(array)
    return array.astype(object) if array.dtype.kind in "UT" else array


def _write(group: h5py.Group, name: str, array: Any) -> None:
    array = _plain(array)
    dtype = _TEXT if array.dtype == object else array.dtype
    group.create_dataset(name, data=array, dtype=dtype, track_times=False)


def _read(dataset: h5py.Dataset) -> np.ndarray:
    return np.asarray(dataset.asstr()[...] if h5py.check_string_dtype(dataset.dtype) else dataset[...])


class Writer:
    """Fills one file; use through `create`. Ragged groups grow item by item, so memory stays at one item."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        self._open: dict[str, dict[str, Any]] = {}

    def append(
        self,
        name: str,
        item_id: str,
        values: np.ndarray,
        columns: Mapping[str, np.ndarray] | None = None,
        items: Mapping[str, Any] | None = None,
    ) -> None:
        """Add one item to the ragged group `name`. ValueError when shapes, columns or a repeated id do not fit the items before."""
        values, columns, items = np.asarray(values), dict(columns or {}), dict(items or {})
        state = self._open.get(name)
        if state is None:
            group = self._file.create_group(name)
            group.attrs["kind"] = "ragged"
            state = {"ids": {}, "offsets": [0], "items": {k: [] for k in items}, "columns": set(columns)}
            for key, array in {"values": values, **{f"columns/{k}": np.asarray(v) for k, v in columns.items()}}.items():
                rows = max(1, (1 << 18) // max(1, array.dtype.itemsize * int(np.prod(array.shape[1:]))))
                group.create_dataset(
                    key,
                    (0, *array.shape[1:]),
                    array.dtype,
                    maxshape=(None, *array.shape[1:]),
                    chunks=(rows, *array.shape[1:]),
                    track_times=False,
                )
            self._open[name] = state
        if item_id in state["ids"]:
            raise ValueError(f"{name}: id {item_id!r} is written twice")
        if set(columns) != state["columns"] or set(items) != set(state["items"]):
            raise ValueError(f"{name}: {item_id!r} has columns {sorted(columns)} and items {sorted(items)}, unlike the items before it")
        group, start, stop = self._file[name], state["offsets"][-1], state["offsets"][-1] + len(values)
        for key, array in {"values": values, **{f"columns/{k}": np.asarray(v) for k, v in columns.items()}}.items():
            data = group[key]
            if len(array) != len(values) or array.shape[1:] != data.shape[1:]:
                raise ValueError(
                    f"{name}/{key}: {item_id!r} has shape {array.shape}, the file holds rows of {data.shape[1:]}, {len(values)} expected"
                )
            data.resize(stop, axis=0)
            data[start:stop] = array
        state["ids"][item_id] = None
        state["offsets"].append(stop)
        for key, value in items.items():
            state["items"][key].append(value)

    def ragged(self, name: str, data: Ragged) -> None:
        """Write a whole ragged group at once."""
        group = self._file.create_group(name)
        group.attrs["kind"] = "ragged"
        _write(group, "ids", np.asarray(data.ids, dtype=object))
        _write(group, "offsets", np.asarray(data.offsets, dtype=np.int64))
        _write(group, "values", data.values)
        for kind, arrays in (("columns", data.columns), ("items", data.items)):
            for key, array in arrays.items():
                _write(group, f"{kind}/{key}", array)

    def table(self, name: str, frame: pd.DataFrame) -> None:
        """Write a DataFrame, one dataset per column (strings as UTF-8, the index is dropped)."""
        group = self._file.create_group(name)
        group.attrs["kind"] = "table"
        group.attrs["columns"] = json.dumps([str(c) for c in frame.columns])
        for column in frame.columns:
            _write(group, str(column), frame[column].to_numpy())

    def array(self, name: str, array: np.ndarray) -> None:
        """Write one dense array; `name` may hold slashes."""
        _write(self._file, name, array)

    def attrs(self, **values: Any) -> None:
        """Add attributes; anything that is not a string or a number is kept as JSON."""
        for key, value in values.items():
            self._file.attrs[key] = value if isinstance(value, str | int | float) else json.dumps(value, sort_keys=True, default=str)

    def _finish(self) -> None:
        for name, state in self._open.items():
            group = self._file[name]
            _write(group, "ids", np.asarray(list(state["ids"]), dtype=object))
            _write(group, "offsets", np.asarray(state["offsets"], dtype=np.int64))
            for key, values in state["items"].items():
                _write(
                    group, f"items/{key}", np.asarray(values, dtype=object) if values and isinstance(values[0], str) else np.asarray(values)
                )


@contextmanager
def create(path: str | Path, *, stage: str, recipe: Mapping[str, Any] | None = None, **attrs: Any) -> Iterator[Writer]:
    """Write `path` atomically: it appears whole when the block ends, and not at all when it raises.

    Attributes written: schema, stage, recipe (JSON), recipe_hash, and `attrs`.
    """
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        writer = Writer(file)
        writer.attrs(prvr_schema=SCHEMA, stage=stage, recipe=dict(recipe or {}), recipe_hash=recipe_hash(recipe or {}), **attrs)
        yield writer
        writer._finish()
        file.attrs["complete"] = True


class Reader:
    """Reads one file; use through `open_store`."""

    def __init__(self, file: h5py.File, path: Path) -> None:
        self._file, self.path = file, path
        self.attrs: dict[str, Any] = {k: _attribute(v) for k, v in file.attrs.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._file

    def names(self, prefix: str = "/") -> list[str]:
        """The full names of every dense array below `prefix`."""
        found: list[str] = []
        group = self._file.get(prefix)
        if group is not None:
            group.visititems(lambda name, node: found.append(f"{prefix}/{name}".strip("/")) if isinstance(node, h5py.Dataset) else None)
        return found

    def ragged(self, name: str, *, lazy: bool = False) -> Ragged:
        """A ragged group. With `lazy`, `values` stays on disk and is sliced on demand while the file is open."""
        group = self._group(name, "ragged")
        return Ragged(
            ids=[str(i) for i in _read(group["ids"])],
            offsets=_read(group["offsets"]),
            values=group["values"] if lazy else _read(group["values"]),
            columns={k: _read(v) for k, v in group.get("columns", {}).items()},
            items={k: _read(v) for k, v in group.get("items", {}).items()},
        )

    def table(self, name: str) -> pd.DataFrame:
        """A table as a DataFrame, columns in the order they were written."""
        group = self._group(name, "table")
        return pd.DataFrame({column: _read(group[column]) for column in json.loads(str(group.attrs["columns"]))})

    def array(self, name: str) -> np.ndarray:
        """A dense array; StoreSchema when it is absent."""
        if name not in self._file:
            raise StoreSchema(
                f"no array {name!r}; the file holds {sorted(self._file)}", where=self.path, fix="delete the file and run again"
            )
        return _read(self._file[name])

    def _group(self, name: str, kind: str) -> h5py.Group:
        if name not in self._file or self._file[name].attrs.get("kind") != kind:
            raise StoreSchema(
                f"no {kind} {name!r}; the file holds {sorted(self._file)}", where=self.path, fix="delete the file and run again"
            )
        return self._file[name]


def _attribute(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in "[{":
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value.item() if isinstance(value, np.generic) else value


@contextmanager
def open_store(path: str | Path, *, stage: str | Sequence[str] | None = None) -> Iterator[Reader]:
    """Open a file for reading, after checking that it is whole, ours, of this schema, and of the expected stage.

    Errors: StoreMissing, StoreDamaged, StoreForeign, StoreSchema, each with the command that mends it.
    """
    path = Path(path)
    if not path.exists():
        raise StoreMissing("the file does not exist", where=path, fix="run the workflow again: it rebuilds what is missing")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        if error.errno:
            raise  # the disk's fault or a permission: the file may be whole
        reason = "it is empty" if path.stat().st_size == 0 else str(error).splitlines()[0]
        raise StoreDamaged(f"not a readable HDF5 file ({reason})", where=path, fix="delete the file and run the workflow again") from error
    with file:
        if "prvr_schema" not in file.attrs:
            raise StoreForeign(
                "HDF5, but not written by prvr",
                where=path,
                fix="published bundles enter through `prvr import`; anything else: move it away",
            )
        if "complete" not in file.attrs:
            raise StoreDamaged("the file was never finished", where=path, fix="delete the file and run the workflow again")
        reader = Reader(file, path)
        if reader.attrs["prvr_schema"] != SCHEMA:
            raise StoreSchema(
                f"schema {reader.attrs['prvr_schema']}, this version reads {SCHEMA}",
                where=path,
                fix="delete the file and run the workflow again",
            )
        expected = [stage] if isinstance(stage, str) else stage
        if expected and reader.attrs["stage"] not in expected:
            raise StoreSchema(
                f"a {reader.attrs['stage']!r} file where {' or '.join(map(repr, expected))} was expected", where=path, fix="check the path"
            )
        yield reader


class Foreign(Mapping[str, np.ndarray]):
    """The datasets of somebody else's HDF5 file by full name, read one at a time; use through `open_foreign`.

    Published bundles hold one dataset per video or caption; `peek` reads the shape and type without the values.
    """

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        self._names: dict[str, None] = {}
        for key in file:
            if file.get(key, getclass=True) is h5py.Dataset:
                self._names[key] = None
            else:
                file[key].visititems(lambda name, node, key=key: self._found(f"{key}/{name}", node))

    def _found(self, name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            self._names[name] = None

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        return _read(self._file[name])

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def peek(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and dtype of one dataset."""
        return self._file[name].shape, self._file[name].dtype


@contextmanager
def open_foreign(path: str | Path) -> Iterator[Foreign]:
    """Open an HDF5 file that prvr did not write. Errors: StoreMissing, StoreDamaged."""
    path = Path(path)
    if not path.exists():
        raise StoreMissing("the file does not exist", where=path, fix="check the path of the bundle")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise StoreDamaged(f"not a readable HDF5 file ({reason})", where=path, fix="download or copy the file again") from error
    with file:
        yield Foreign(file)


@contextmanager
def create_foreign(path: str | Path) -> Iterator[Callable[[str, np.ndarray], None]]:
    """Write a plain HDF5 file, one dataset per name, atomically: yields `put(name, array)`."""
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        yield lambda name, array: _write(file, name, array)
