"""Writing a file of ours: item by item, with a checksum of everything, under its final name when it is whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from pipeline.core.atomic import replacing
from pipeline.core.errors import StoreValues
from pipeline.core.provenance import SCHEMA, recipe_hash
from pipeline.core.store.checksums import crc, digest, entry, piece_starts, pieces, rows_per_piece
from pipeline.core.store.ragged import Ragged
from pipeline.core.store.reader import LISTING
from pipeline.core.store.sink import Sink
from pipeline.core.store.text import attributes, put, put_attribute

# The first version of the format in which every part of a file's structure has a checksum, which HDF5 compares; newer libraries read it.
FORMAT = ("v110", "v110")


@dataclass
class _Growing:
    """A ragged group that is being filled: its data sets, and what is written at its end."""

    data: dict[str, h5py.Dataset]  # "values" and "columns/<name>"
    items: dict[str, list]
    size: int  # rows per piece
    ids: dict[str, None] = field(default_factory=dict)
    offsets: list[int] = field(default_factory=lambda: [0])
    pieces: list[int] = field(default_factory=list)
    columns: dict[str, int] = field(default_factory=dict)  # name -> checksum so far


class Writer:
    """Fills one file; use through `create`. Ragged groups grow item by item, so memory stays at one item.

    Errors of every method: DiskError when the disk does not take it; StoreValues for infinite values.
    """

    def __init__(self, file: h5py.File, check: Callable[[], None]) -> None:
        self._file, self._check = file, check
        self._growing: dict[str, _Growing] = {}
        self._arrays: dict[str, list] = {}
        self._groups: dict[str, Any] = {}

    def append(
        self,
        name: str,
        item_id: str,
        values: np.ndarray,
        columns: Mapping[str, np.ndarray] | None = None,
        items: Mapping[str, Any] | None = None,
    ) -> None:
        """Add one item to the ragged group `name`. ValueError when shapes, columns or a repeated id do not fit the items before."""
        arrays = {"values": np.asarray(values), **{f"columns/{k}": np.asarray(v) for k, v in (columns or {}).items()}}
        items = dict(items or {})
        group = self._growing.get(name) or self._begin(name, arrays, items)
        if item_id in group.ids:
            raise ValueError(f"{name}: id {item_id!r} is written twice")
        if set(arrays) != set(group.data) or set(items) != set(group.items):
            given = sorted(arrays.keys() - {"values"})
            raise ValueError(f"{name}: {item_id!r} has {given} and items {sorted(items)}, unlike the items before it")
        start, rows = group.offsets[-1], len(arrays["values"])
        for key, array in arrays.items():
            data = group.data[key]
            if len(array) != rows or array.shape[1:] != data.shape[1:]:
                raise ValueError(
                    f"{name}/{key}: {item_id!r} has shape {array.shape}, the file holds rows of {data.shape[1:]}, {rows} expected"
                )
            with np.errstate(over="ignore"):
                array = np.ascontiguousarray(array, dtype=data.dtype)
            _refuse(array, f"{name}/{key} of {item_id!r}")
            data.resize(start + rows, axis=0)
            data[start:] = array
            if key == "values":
                group.pieces += pieces(array, group.size)
            else:
                group.columns[key] = crc(array, group.columns.get(key, 0))
        self._check()
        group.ids[item_id] = None
        group.offsets.append(start + rows)
        for key, value in items.items():
            group.items[key].append(value)

    def _begin(self, name: str, arrays: Mapping[str, np.ndarray], items: Mapping[str, Any]) -> _Growing:
        node, data = self._file.create_group(name), {}
        self._groups[name] = {"kind": "ragged"}
        for key, array in arrays.items():
            rows = rows_per_piece(array.shape, array.dtype)
            shape, most = (0, *array.shape[1:]), (None, *array.shape[1:])
            data[key] = node.create_dataset(key, shape, array.dtype, maxshape=most, chunks=(rows, *array.shape[1:]), track_times=False)
        size = rows_per_piece(arrays["values"].shape, arrays["values"].dtype)
        self._growing[name] = _Growing(data, {key: [] for key in items}, size)
        return self._growing[name]

    def ragged(self, name: str, data: Ragged) -> None:
        """Write a whole ragged group at once. ValueError when its parts do not belong together."""
        values, offsets = np.asarray(data.values), np.asarray(data.offsets, dtype=np.int64)
        if problem := data.problem():
            raise ValueError(f"{name}: {problem}")
        self._groups[name] = {"kind": "ragged"}
        size = rows_per_piece(values.shape, values.dtype)
        starts = piece_starts(offsets, size)
        _refuse(values, name)
        self._put(f"{name}/values", values, checksum=False)
        self._close(name, data.ids, offsets, [crc(values[a:b]) for a, b in pairwise(starts)], data.items)
        for key, array in data.columns.items():
            self._put(f"{name}/columns/{key}", array)

    def table(self, name: str, frame: pd.DataFrame) -> None:
        """Write a DataFrame, one dataset per column (the index is dropped)."""
        self._groups[name] = {"kind": "table", "columns": [str(c) for c in frame.columns]}
        for column in frame.columns:
            self._put(f"{name}/{column}", frame[column].to_numpy())

    def array(self, name: str, array: np.ndarray, *, finite: bool = False) -> None:
        """Write one dense array; `name` may hold slashes. With `finite`, infinite values are refused, as in ragged groups."""
        if finite:
            _refuse(np.asarray(array), name)
        self._put(name, array)

    def attrs(self, **values: Any) -> None:
        """Add attributes; anything that is not a string or a number is kept as JSON."""
        for key, value in values.items():
            plain = value if isinstance(value, str | int | float) else json.dumps(value, sort_keys=True, default=str)
            put_attribute(self._file, key, plain)
        self._check()

    def _put(self, name: str, array: Any, *, checksum: bool = True) -> None:
        array = write(self._file, name, array)
        self._arrays[name] = entry(array.dtype, array.shape, crc(array) if checksum else None)
        self._check()

    def _close(self, name: str, ids: list[str], offsets: np.ndarray, sums: list[int], items: Mapping[str, Any]) -> None:
        self._put(f"{name}/ids", np.asarray(ids, dtype=object))
        self._put(f"{name}/offsets", offsets)
        self._put(f"{name}/checksums", np.asarray(sums, dtype=np.uint32))
        for key, values in items.items():
            array = np.asarray(values, dtype=object) if len(values) and isinstance(values[0], str) else np.asarray(values)
            _refuse(array, f"{name}/items/{key}")
            self._put(f"{name}/items/{key}", array)

    def finish(self) -> None:
        """Write what is known at the end only: ids and offsets of what was appended, the listing, and last the digest."""
        for name, group in self._growing.items():
            self._close(name, list(group.ids), np.asarray(group.offsets, dtype=np.int64), group.pieces, group.items)
            for key, data in group.data.items():
                self._arrays[f"{name}/{key}"] = entry(data.dtype, data.shape, group.columns.get(key))
        listing = json.dumps({"arrays": self._arrays, "groups": self._groups}, sort_keys=True).encode()
        write(self._file, LISTING, np.frombuffer(listing, np.uint8))
        put_attribute(self._file, "digest", digest(attributes(self._file), listing))


def _refuse(array: np.ndarray, what: str) -> None:
    """StoreValues for infinite values, looked at after the cast: float16 ends at 65,504."""
    if array.dtype.kind == "f" and (count := _infinite(array)):
        raise StoreValues(
            f"{what}: {count} infinite values as {array.dtype}", fix="look at where they come from; store float32 if they are large"
        )


def _infinite(array: np.ndarray) -> int:
    if array.dtype == np.float16:  # by its bits: 20 times faster than numpy's own question
        return int(np.count_nonzero((np.ascontiguousarray(array).view(np.uint16) & 0x7FFF) == 0x7C00))
    return int(np.isinf(array).sum())


def write(group: h5py.Group, name: str, array: Any) -> np.ndarray:
    """Write one data set, text as in text.py; returns the array as it is stored."""
    array = np.asarray(array)
    array = array.astype(object) if array.dtype.kind in "UT" else array
    if array.dtype == object:
        put(group, name, array)
    else:
        group.create_dataset(name, data=array, track_times=False)
    return array


@contextmanager
def writing(path: str | Path) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """An HDF5 file that gets its name when the block ends, and what raises when the disk did not take a write. Errors: DiskError."""
    with replacing(path) as temporary, Sink(temporary) as sink:
        with h5py.File(sink, "w", libver=FORMAT) as file:
            yield file, sink.check
        sink.check()


@contextmanager
def create(path: str | Path, *, stage: str, recipe: Mapping[str, Any] | None = None, **attrs: Any) -> Iterator[Writer]:
    """Write `path` atomically: it appears whole when the block ends, and not at all when it raises.

    Attributes written: schema, stage, recipe (JSON), recipe_hash, `attrs`, and last `digest`, over them and the checksums of all arrays.
    """
    with writing(path) as (file, check):
        writer = Writer(file, check)
        writer.attrs(prvr_schema=SCHEMA, stage=stage, recipe=dict(recipe or {}), recipe_hash=recipe_hash(recipe or {}), **attrs)
        yield writer
        writer.finish()
