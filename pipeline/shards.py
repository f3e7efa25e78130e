"""Shards: which videos share a job, and a store that computes only what is new and loses nothing when killed."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import StoreError
from pipeline.store import Ragged, create, open_store, recipe_hash

PART_BYTES = 32 << 20  # results held in memory before they are put on disk


def shard_names(videos: int, size: int) -> list[str]:
    """Names of the shards for that many videos: the least power of two that keeps the average at or below `size`.

    A power of two stays put while a collection grows, so adding a video moves no other one.
    """
    count = 1
    while count * size < videos:
        count *= 2
    width = max(3, len(str(count - 1)))
    return [f"{i:0{width}d}" for i in range(count)]


def shard_of(video_id: str, names: list[str]) -> str:
    """The shard of a video: a stable hash of its id, whatever other videos there are."""
    return names[int(hashlib.sha256(video_id.encode()).hexdigest(), 16) % len(names)]


def assign(video_ids: Iterable[str], size: int) -> dict[str, list[str]]:
    """shard name -> its video ids, sorted; every shard is present, also an empty one."""
    ids = sorted(video_ids)
    names = shard_names(len(ids), size)
    shards: dict[str, list[str]] = {name: [] for name in names}
    for video_id in ids:
        shards[shard_of(video_id, names)].append(video_id)
    return shards


class ShardStore:
    """One stage's HDF5 of one shard, filled item by item.

    Items are kept by `key` (content fingerprint and recipe): those of the previous file with the same key are copied, not computed.
    New items are put into part files beside the final one, each whole, so a killed job goes on where it was; `finish` merges
    everything in the given order (the bytes do not depend on interruptions) and removes the parts.
    """

    def __init__(self, path: Path, *, stage: str, recipe: Mapping[str, Any], group: str) -> None:
        self.path, self.stage, self.recipe, self.group = Path(path), stage, dict(recipe), group
        self._hash = recipe_hash(self.recipe)
        self._parts = self.path.with_name(f".{self.path.stem}.parts")
        self._files: dict[str, Path] = {}  # item -> the file that holds it
        self._keys: dict[str, str] = {}
        self._pending: list[tuple[str, np.ndarray, dict, dict]] = []
        self._bytes = 0
        for file in [self.path, *sorted(self._parts.glob("*.h5"))]:
            self._adopt(file)

    def _adopt(self, file: Path) -> None:
        try:
            with open_store(file, stage=self.stage) as store:
                if store.attrs["recipe_hash"] != self._hash or self.group not in store:
                    return
                data = store.ragged(self.group, lazy=True)
                for item, key in zip(data.ids, data.items["key"], strict=True):
                    self._files[item], self._keys[item] = file, str(key)
        except StoreError:
            return  # absent, damaged or another version: its items are computed again

    def has(self, item: str, key: str) -> bool:
        """Whether the item is already there, made from the same content by the same recipe."""
        return self._keys.get(item) == key

    def known(self) -> dict[str, str]:
        """item -> key of everything already there."""
        return dict(self._keys)

    def add(
        self,
        item: str,
        key: str,
        values: np.ndarray,
        columns: Mapping[str, np.ndarray] | None = None,
        items: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a computed item (see store.Writer.append)."""
        self._pending.append((item, values, dict(columns or {}), {**(items or {}), "key": key}))
        self._keys[item] = key
        self._bytes += values.nbytes
        if self._bytes >= PART_BYTES:
            self.flush()

    def flush(self) -> None:
        """Put the added items on disk as a part file."""
        if not self._pending:
            return
        part = self._parts / f"{len(list(self._parts.glob('*.h5'))):06d}.h5"
        with create(part, stage=self.stage, recipe=self.recipe) as writer:
            for item, values, columns, items in self._pending:
                writer.append(self.group, item, values, columns, items)
        for item, *_ in self._pending:
            self._files[item] = part
        self._pending, self._bytes = [], 0

    def finish(self, order: Iterable[str], **attrs: Any) -> int:
        """Write the final file with the items of `order` (KeyError when one is missing) and drop everything else; returns the rows."""
        self.flush()
        order, rows = list(order), 0
        missing = [item for item in order if item not in self._files]
        if missing:
            raise KeyError(f"{self.path}: never computed: {', '.join(missing[:5])}")
        loaded: dict[Path, Ragged] = {}
        for file in {self._files[item] for item in order}:
            with open_store(file, stage=self.stage) as store:
                loaded[file] = store.ragged(self.group)
        with create(self.path, stage=self.stage, recipe=self.recipe, **attrs) as writer:
            for item in order:
                data = loaded[self._files[item]]
                place, i = data.rows(item), data.index[item]
                writer.append(
                    self.group,
                    item,
                    data.values[place],
                    {k: v[place] for k, v in data.columns.items()},
                    {k: v[i] for k, v in data.items.items()},
                )
                rows += place.stop - place.start
        shutil.rmtree(self._parts, ignore_errors=True)
        return rows
