"""Shards: which videos share a job, and a store that computes only what is new and loses nothing when killed."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import StoreDamaged, StoreMissing, StoreSchema
from pipeline.core.notices import say
from pipeline.core.store import Ragged, create, open_store, recipe_hash

PART_BYTES = 32 << 20  # results held in memory before they are put on disk
USUAL = 100  # videos of a shard
MOST, MOST_LONG = 128, 1024  # shards of a new division, and of one of long videos: each costs a plan its jobs, whatever it holds
FRAME_BYTES = 25e9  # that wait on disk for a shard's encoders, as far as MOST_LONG shards allow: a film of three hours with SlowFast


def shard_size(videos: int, frames: float) -> int:
    """Videos a shard where no number is given: more of very many, fewer of long ones, in steps of two.

    `frames`: bytes of the temporary frames of a video.
    """
    size = USUAL
    while size * MOST < videos:
        size *= 2
    while size > 1 and size * frames > FRAME_BYTES and size // 2 * MOST_LONG >= videos:
        size //= 2
    return size


def shard_names(videos: int, size: int) -> list[str]:
    """Names of the shards of a new division: the least power of two that keeps the average at or below `size`."""
    count = 1
    while count * size < videos:
        count *= 2
    return names(count)


def names(count: int, hashed: int | None = None) -> list[str]:
    """Names of that many shards, of which a new division had the `hashed` first (None: all); those that follow rename no other."""
    width = max(3, len(str((hashed or count) - 1)))
    return [f"{i:0{width}d}" for i in range(count)]


def parts(file: Path) -> Path:
    """The folder beside a shard's file for what is computed and not yet in it."""
    return file.with_name(f".{file.stem}.parts")


def shard_of(content: str, shards: Sequence[str]) -> str:
    """The shard of a video: a stable hash of its content, whatever other videos there are and whatever its own name is."""
    return shards[int(hashlib.sha256(content.encode()).hexdigest(), 16) % len(shards)]


def assign(video_ids: Iterable[str], size: int, content: Mapping[str, str] | None = None) -> dict[str, list[str]]:
    """shard name -> its video ids, sorted; every shard is present, also an empty one.

    `content` gives the fingerprints of videos that can be looked at: a renamed file then stays in its shard, where the stores still hold
    what was computed of it. The id stands in for a missing one.
    """
    ids = sorted(video_ids)
    shards: dict[str, list[str]] = {name: [] for name in shard_names(len(ids), size)}
    listed = list(shards)
    for video_id in ids:
        shards[shard_of((content or {}).get(video_id) or video_id, listed)].append(video_id)
    return shards


def extended(former: Mapping[str, Iterable[str]], deciding: Mapping[str, str], size: int) -> dict[str, list[str]] | None:
    """The same of a collection that was divided before: who was there stays, others fill the last shard and then further ones.

    So a hundredth more videos change about a hundredth of the shards. `former`: shard name -> what decided the shard of its videos, in
    the order of the names; `deciding`: video id -> what decides its own. None where a new division is better: most videos are new, or
    it has fewer than half as many shards.
    """
    place = {one: shard for shard, those in former.items() for one in those}
    shards: dict[str, list[str]] = {name: [] for name in former}
    new = []
    for video_id, one in sorted(deciding.items()):
        shards[place[one]].append(video_id) if one in place else new.append(video_id)
    if 2 * len(new) > len(deciding):
        return None
    last = next(reversed(shards))
    for video_id in new:
        one = deciding[video_id]
        if one not in place and len(shards[last]) >= size:
            last = f"{len(shards):0{len(last)}d}"
            shards[last] = []
        shards[place.setdefault(one, last)].append(video_id)
    divided = {name: sorted(ids) for name, ids in shards.items()}
    return divided if len(divided) <= 2 * len(shard_names(len(deciding), size)) else None


def key(fingerprint: str, recipe: dict[str, Any]) -> str:
    """What an item of a ShardStore was made from: its content and its recipe."""
    return f"{fingerprint}-{recipe_hash(recipe)}"


class ShardStore:
    """One stage's HDF5 of one shard, filled item by item.

    Items are kept by `key` (content fingerprint and recipe): what the previous file holds under the same key is copied, not computed,
    also when the item has another name now, and two items of one key are one computation. New items are put into part files beside
    the final one, each whole, so a killed job goes on where it was; `finish` merges everything in the given order (the bytes do not
    depend on interruptions) and removes the parts. `also` names other files to take items from. What is to be copied is compared with its
    checksums first: a damaged item counts as absent.
    """

    def __init__(self, path: Path, *, stage: str, recipe: Mapping[str, Any], group: str, also: Iterable[Path] = ()) -> None:
        self.path, self.stage, self.recipe, self.group = Path(path), stage, dict(recipe), group
        self.attrs: dict[str, Any] = {}  # of part files
        self._hash = recipe_hash(self.recipe)
        self._parts = parts(self.path)
        self._places: dict[str, tuple[Path, str]] = {}  # key -> the file that holds it, and the name it has there
        self._pending: dict[str, tuple[str, np.ndarray, dict, dict]] = {}  # key -> what is not on disk yet
        self._bytes = 0
        for file in [self.path, *sorted(self._parts.glob("*.h5")), *also]:
            self._adopt(file)

    def _adopt(self, file: Path) -> None:
        try:
            with open_store(file, stage=self.stage) as store:
                if store.attrs["recipe_hash"] != self._hash or self.group not in store:
                    return
                data = store.ragged(self.group, lazy=True)
                bad = set(data.damaged())
                if bad:
                    say(f"warning: {len(bad)} items of {file} are damaged and are computed again")
                for item, key in zip(data.ids, data.items["key"], strict=True):
                    if item not in bad:
                        self._places.setdefault(str(key), (file, item))
        except (StoreMissing, StoreSchema):
            return  # absent, or of another version: its items are computed again
        except StoreDamaged as error:
            say(f"warning: {error.what}, {file}: its items are computed again")

    def has(self, key: str) -> bool:
        """Whether the result for this content by this recipe is already there."""
        return key in self._places or key in self._pending

    def missing(self, keys: Mapping[str, str]) -> list[str]:
        """The items (item -> key) left to compute, in their order; of several with one key the first."""
        first: dict[str, str] = {}
        for item, key in keys.items():
            if not self.has(key):
                first.setdefault(key, item)
        return list(first.values())

    def add(
        self,
        item: str,
        key: str,
        values: np.ndarray,
        columns: Mapping[str, np.ndarray] | None = None,
        items: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a computed item (see store.Writer.append)."""
        self._pending[key] = item, values, dict(columns or {}), {**(items or {}), "key": key}
        self._bytes += values.nbytes
        if self._bytes >= PART_BYTES:
            self.flush()

    def flush(self) -> None:
        """Put the added items on disk as a part file."""
        if not self._pending:
            return
        part = self._parts / f"{len(list(self._parts.glob('*.h5'))):06d}.h5"
        with create(part, stage=self.stage, recipe=self.recipe, **self.attrs) as writer:
            for item, values, columns, items in self._pending.values():
                writer.append(self.group, item, values, columns, items)
        self._places |= {key: (part, item) for key, (item, *_) in self._pending.items()}
        self._pending, self._bytes = {}, 0

    def finish(self, keys: Mapping[str, str], **attrs: Any) -> int:
        """Write the final file with these items (item -> key) in this order and drop everything else; returns the rows.

        Errors: KeyError when one was never computed.
        """
        self.flush()
        rows, absent = 0, [item for item, key in keys.items() if key not in self._places]
        if absent:
            raise KeyError(f"{self.path}: never computed: {', '.join(absent[:5])}")
        with ExitStack() as stack:
            stored_in: dict[Path, Ragged] = {}
            for file in dict.fromkeys(self._places[key][0] for key in keys.values()):
                stored_in[file] = stack.enter_context(open_store(file, stage=self.stage)).ragged(self.group, lazy=True)
            writer = stack.enter_context(create(self.path, stage=self.stage, recipe=self.recipe, **attrs))
            for item, key in keys.items():
                file, stored = self._places[key]
                data = stored_in[file]
                place, i = data.rows(stored), data.index[stored]
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
