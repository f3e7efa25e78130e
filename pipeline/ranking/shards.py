"""The clip shards of an experiment: the units they hold, which are videos or windows of long ones, and the arrays of some of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pipeline.core.errors import TrainingError
from pipeline.core.store import open_store
from pipeline.ranking.room import Room
from pipeline.ranking.split import ARRAYS, TIMES, PooledVideos

_REBUILD = "delete this folder and run the workflow again"


def units(folder: Path, wanted: Sequence[str], made_by: str | None = None) -> pd.DataFrame:
    """The units of the wanted videos, in the order wanted.

    Columns: `video_id`, `duration` of the whole video [s], `file` and `row` where it lies, `number` within its video; of windows also
    `start` and `end` [s]. Errors: TrainingError when a video is in two shards; StoreError.
    """
    tables, owner = [], dict[str, Path]()
    place = {video: i for i, video in enumerate(wanted)}
    for path in sorted(folder.glob("*.h5")):
        with open_store(path, stage="clips", shard=path.stem, recipe_hash=made_by) as store:
            table = store.table("videos").astype({"video_id": str})
        for video in dict.fromkeys(table["video_id"]):
            if video in owner:
                raise TrainingError(f"video {video!r} is also in {owner[video]}, and here in {path.name}", where=folder, fix=_REBUILD)
            owner[video] = path
        table["file"], table["row"] = str(path), np.arange(len(table))
        table["number"] = table.groupby("video_id").cumcount()
        tables.append(table[table["video_id"].isin(place)])
    columns = ["video_id", "duration", "file", "row", "number"]
    found = pd.concat([part for part in tables if len(part)]) if any(map(len, tables)) else pd.DataFrame(columns=columns)
    order = np.lexsort((found["number"].to_numpy(int), found["video_id"].map(place).to_numpy(int)))
    return found.iloc[order].reset_index(drop=True)


def arrays(chosen: pd.DataFrame, folder: Path, what: str, room: Room | None, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Some arrays of these units, in their order, in memory where there is room; none of no units. Errors: TrainingError, StoreError."""
    result: dict[str, np.ndarray] = {}
    for path, part in chosen.groupby("file", sort=False):
        with open_store(Path(str(path)), stage="clips") as store:
            found = {name: store.array(name) for name in names}
        result = result or _allocate(found, len(chosen), what, room)
        for name, array in found.items():
            if array.shape[1:] != result[name].shape[1:]:
                shapes = f"{array.shape[1:]} here and {result[name].shape[1:]} in other shards"
                raise TrainingError(f"{name} of {path} has shape {shapes}", where=folder, fix=_REBUILD)
            result[name][part.index.to_numpy()] = array[part["row"].to_numpy()]
    return result


def pooled(chosen: pd.DataFrame, folder: Path, what: str, room: Room | None) -> PooledVideos:
    """These units, in their order. Errors: those of `arrays`."""
    found = arrays(chosen, folder, what, room, (*ARRAYS, *TIMES))
    tensors = {name: torch.from_numpy(found[name]) if found else torch.zeros(0, 1, 1) for name in ARRAYS}
    start, end = (found[name] if found else np.zeros((0, 1)) for name in TIMES)
    duration = chosen["duration"].to_numpy(dtype=np.float64)
    return PooledVideos(list(chosen["video_id"]), **tensors, start=start, end=end, duration=duration, mapped=mapped(found, ARRAYS))


def whole(path: Path) -> PooledVideos:
    """Every unit of one clip shard, whatever its split. Errors: StoreError."""
    with open_store(path, stage="clips", shard=path.stem) as store:
        videos = store.table("videos")
        tensors = {name: torch.from_numpy(store.array(name)) for name in ARRAYS}
        start, end = (store.array(name) for name in TIMES)
    return PooledVideos(
        [str(i) for i in videos["video_id"]], **tensors, start=start, end=end, duration=videos["duration"].to_numpy(np.float64), mapped=()
    )


def mapped(found: Mapping[str, np.ndarray], names: Sequence[str]) -> tuple[np.ndarray, ...]:
    """Those of some arrays that lie in a file."""
    return tuple(found[name] for name in names if name in found and isinstance(found[name], np.memmap))


def _allocate(like: Mapping[str, np.ndarray], count: int, what: str, room: Room | None) -> dict[str, np.ndarray]:
    """Arrays of so many units, of the shapes and types of some, in memory where there is room."""
    size = sum(count * array[0].nbytes for array in like.values())
    new = np.zeros if room is None or room.take(what, size) else room.mapped
    return {name: new((count, *array.shape[1:]), array.dtype) for name, array in like.items()}
