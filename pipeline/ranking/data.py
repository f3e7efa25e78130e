"""A split's clips and queries, read from the store in a few reads and kept in memory as they are stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.clips.pooling import average_to_fixed_length, padded
from pipeline.core.errors import TrainingError
from pipeline.core.store import AGAIN, Ragged, Reader, open_store
from pipeline.datasets import table
from pipeline.ranking.room import Room
from pipeline.ranking.split import ARRAYS, TIMES, PooledVideos, Queries, Split, normalised

_REBUILD = "delete this folder and run the workflow again"
Mapped = tuple[np.ndarray, ...]  # arrays in files
MadeBy = Mapping[str, Mapping[str, Any]]  # text encoder -> what of its recipe its file must say of itself


def load(
    name: str,
    *,
    annotations: Path,
    clips: Path,
    text: Path,
    teacher: Path | None = None,
    teacher_clips: Path | None = None,
    training: bool = True,
    needs_teacher: bool = True,
    room: Room | None = None,
    made_by: str | None = None,
    teacher_made_by: str | None = None,
    texts_made_by: MadeBy | None = None,
) -> Split:
    """Read one split.

    `clips` is the folder of the clip shards, `text` the query encoder's file, `teacher` another text encoder's (None: the query encoder's
    own last token), `teacher_clips` the folder of the rows of a teacher of frames, whose sentences are then read from `teacher`, or from
    `text`. Videos without clips (quarantined, or not on disk) are left out with their queries and counted. For `training`, videos
    that no query asks for are left out too; otherwise they are part of the gallery. Arrays that `room` has no memory for lie in its
    files (None: all in memory). `made_by` and `teacher_made_by` are the hashes of the recipes the clips must be of, `texts_made_by` values
    of those of the text files.

    Errors: TrainingError when nothing is left, a query has no text, a video is in two shards, or TCPL has no teacher; StoreError.
    """
    known = table.load(annotations)
    queries = known.queries[known.queries["split"] == name]
    asked = (
        set(queries["video_id"]) if training else set(known.videos["video_id"][known.videos["split"] == name]) | set(queries["video_id"])
    )
    wanted = [video for video in known.videos["video_id"] if video in asked]
    videos = _videos(wanted, clips, name, room, made_by)
    place = {video: i for i, video in enumerate(videos.ids)}
    usable = queries[queries["video_id"].isin(place)]
    dropped = {"videos": len(wanted) - len(videos), "queries": len(queries) - len(usable)}
    if not len(usable):
        splits = ", ".join(f"{split} ({count})" for split, count in known.queries["split"].value_counts().items())
        raise TrainingError(
            f"split {name!r} has no query whose video has clips; queries per split: {splits}",
            where=annotations,
            fix="name another split in training.selection_split or evaluation.split, or give the annotations such a split",
        )
    ids = [str(query) for query in usable["query_id"]]
    owner = torch.tensor([place[v] for v in usable["video_id"]])
    stated = texts_made_by or {}
    asked_for = _queries(ids, owner, text, teacher, stated, needs_teacher=needs_teacher)
    if teacher_clips is not None:
        seen, mapped = _teacher_rows(videos, teacher_clips, name, room, teacher_made_by)
        said = _teacher_sentences(ids, teacher or text, seen.shape[2], teacher_clips, stated)
        videos, asked_for = replace(videos, teacher=seen, mapped=(*videos.mapped, *mapped)), replace(asked_for, teacher_sentence=said)
    return Split(name, videos, asked_for, known, dropped)


def _text(path: Path, stated: MadeBy) -> AbstractContextManager[Reader]:
    """A file of query states; refused by its content when it is another encoder's, or was made by other settings or weights."""
    return open_store(path, stage="text", encoder=path.stem, recipe=stated.get(path.stem))


def _queries(ids: list[str], owner: Tensor, text: Path, teacher: Path | None, stated: MadeBy, *, needs_teacher: bool) -> Queries:
    """The states of these queries, in this order. Shapes: `owner` [Q] int64 index of each query's video."""
    with _text(text, stated) as store:
        tokens = store.ragged("tokens")
        imported = str(store.attrs.get("architecture", "")).startswith("published:")
        last = not imported and store.attrs.get("teacher", "last") == "last"
    sentences = tokens.items.get("sentence")
    rows = _order(tokens, ids, text)
    lengths = torch.from_numpy(np.diff(tokens.offsets)[rows])
    source = np.concatenate([np.arange(tokens.offsets[i], tokens.offsets[i + 1]) for i in rows])
    return Queries(
        ids,
        owner,
        words=torch.from_numpy(np.ascontiguousarray(tokens.values[source])),
        offsets=torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]),
        teacher=_teacher(ids, tokens, rows, text, teacher, last, stated) if needs_teacher else None,
        sentence=None if sentences is None else torch.from_numpy(np.asarray(sentences, dtype=np.float32)[rows]),
    )


def _videos(wanted: list[str], folder: Path, split: str, room: Room | None, made_by: str | None) -> PooledVideos:
    """The wanted videos that have clips, in the order wanted."""
    kept, arrays, duration = _arrays(wanted, folder, f"the clips of {split!r}", room, made_by, (*ARRAYS, *TIMES))
    tensors = {name: torch.from_numpy(arrays[name]) if arrays else torch.zeros(0, 1, 1) for name in ARRAYS}
    start, end = (arrays[name] if arrays else np.zeros((0, 1)) for name in TIMES)
    return PooledVideos(kept, **tensors, start=start, end=end, duration=duration, mapped=_mapped(arrays, ARRAYS))


def _arrays(
    wanted: list[str], folder: Path, what: str, room: Room | None, made_by: str | None, names: Sequence[str]
) -> tuple[list[str], dict[str, np.ndarray], np.ndarray]:
    """Some arrays of the wanted videos that are in the shards of a folder: their ids in the order wanted, the arrays, and the durations."""
    shards: dict[Path, list[str]] = {}
    owner: dict[str, Path] = {}
    for path in sorted(folder.glob("*.h5")):
        with open_store(path, stage="clips", shard=path.stem, recipe_hash=made_by) as store:
            shards[path] = [str(video) for video in store.table("videos")["video_id"]]
        for video in shards[path]:
            if video in owner:
                raise TrainingError(f"video {video!r} is also in {owner[video]}, and here in {path.name}", where=folder, fix=_REBUILD)
            owner[video] = path
    kept = [video for video in wanted if video in owner]
    index = {video: i for i, video in enumerate(kept)}
    arrays: dict[str, np.ndarray] = {}
    duration = np.full(len(kept), np.nan)
    for path, ids in shards.items():
        chosen = [i for i, video in enumerate(ids) if video in index]
        if not chosen:
            continue
        place = [index[ids[i]] for i in chosen]
        with open_store(path, stage="clips") as store:
            duration[place] = store.table("videos")["duration"].to_numpy(dtype=np.float64)[chosen]
            found = {name: store.array(name) for name in names}
        arrays = arrays or _allocate(found, len(kept), what, room)
        for name, array in found.items():
            if array.shape[1:] != arrays[name].shape[1:]:
                shapes = f"{array.shape[1:]} here and {arrays[name].shape[1:]} in other shards"
                raise TrainingError(f"{name} of {path.name} has shape {shapes}", where=folder, fix=_REBUILD)
            arrays[name][place] = array[chosen]
    return kept, arrays, duration


def _teacher_rows(videos: PooledVideos, folder: Path, split: str, room: Room | None, made_by: str | None) -> tuple[Tensor, Mapped]:
    """The rows a teacher of frames has of these videos, and what of them lies in a file. Shapes: -> [V, F, T]."""
    what = f"what the teacher sees of {split!r}"
    kept, arrays, _ = _arrays(videos.ids, folder, what, room, made_by, ("frames", "frame_count"))
    have = set(kept)
    if absent := [video for video in videos.ids if video not in have]:
        raise TrainingError(
            f"the teacher has no rows of {len(absent)} videos, the first is {absent[0]!r}",
            where=folder,
            fix="run the workflow again: it encodes what is missing; of imported features, import the complete bundle",
        )
    return torch.from_numpy(beside(arrays["frames"], arrays["frame_count"], videos.frame_count.numpy())), _mapped(arrays, ["frames"])


def _mapped(arrays: Mapping[str, np.ndarray], names: Iterable[str]) -> Mapped:
    return tuple(arrays[name] for name in names if name in arrays and isinstance(arrays[name], np.memmap))


def beside(frames: np.ndarray, count: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """A teacher's rows, one beside each frame of the student: where their numbers differ, pooled to the student's as rows are everywhere.

    Shapes: `frames` [V, F, T], of which `count` [V] are no padding; `wanted` [V] -> `frames`, changed in place.
    """
    for i in np.flatnonzero(count != wanted):
        frames[i] = padded(average_to_fixed_length(frames[i, : count[i]].astype(np.float32), int(wanted[i])), frames.shape[1])
    return frames


def _teacher_sentences(ids: list[str], text: Path, width: int, folder: Path, stated: MadeBy) -> Tensor:
    """The sentence vectors of these queries in the space of the teacher's rows. Shapes: -> float32 [Q, T]."""
    with _text(text, stated) as store:
        tokens = store.ragged("tokens", lazy=True)
    if "sentence" not in tokens.items:
        raise TrainingError(
            "a teacher of frames needs a sentence vector of every query, and this import declared none",
            where=text,
            fix="name an encoder of images and sentences as `teacher`",
        )
    sentences = np.asarray(tokens.items["sentence"], dtype=np.float32)
    if sentences.shape[1] != width:
        raise TrainingError(
            f"the teacher's sentences have {sentences.shape[1]} values, its rows {width}: they are not of one space",
            where=folder,
            fix="name an encoder of images and sentences as `teacher`, such as CLIP",
        )
    return torch.from_numpy(sentences[_order(tokens, ids, text)])


def shard(path: Path) -> PooledVideos:
    """Every video of one clip shard, whatever its split. Errors: StoreError."""
    with open_store(path, stage="clips", shard=path.stem) as store:
        videos = store.table("videos")
        tensors = {name: torch.from_numpy(store.array(name)) for name in ARRAYS}
        start, end = (store.array(name) for name in TIMES)
    return PooledVideos(
        [str(i) for i in videos["video_id"]], **tensors, start=start, end=end, duration=videos["duration"].to_numpy(np.float64), mapped=()
    )


def _allocate(like: Mapping[str, np.ndarray], videos: int, what: str, room: Room | None) -> dict[str, np.ndarray]:
    """Arrays of so many videos, of the shapes and types of some, in memory where there is room."""
    size = sum(videos * array[0].nbytes for array in like.values())
    new = np.zeros if room is None or room.take(what, size) else room.mapped
    return {name: new((videos, *array.shape[1:]), array.dtype) for name, array in like.items()}


def _order(data: Ragged, ids: list[str], path: Path) -> list[int]:
    if missing := [query for query in ids if query not in data]:
        raise TrainingError(
            f"{len(missing)} queries have no text states, the first is {missing[0]!r}",
            where=path,
            fix=AGAIN,
        )
    return [data.index[query] for query in ids]


def _teacher(ids: list[str], tokens: Ragged, rows: list[int], text: Path, teacher: Path | None, last: bool, stated: MadeBy) -> Tensor:
    """The frozen sentence vectors TCPL keeps the relations of.

    Another encoder's are its sentence vectors. The query encoder's own are its `last` token states ([EOS], even of a caption longer than
    `max_words`) where its sentences are made from those, as CLIP's, else its sentence vectors; in an imported text file, what the import
    declared. Shapes: [Q, T] float32, unit length. Source: docs/method.md 6.4, 10.
    """
    if teacher is None and last:
        return normalised(torch.from_numpy(tokens.values[tokens.offsets[np.asarray(rows) + 1] - 1]))
    path = teacher or text
    with _text(path, stated) as store:
        other = store.ragged("tokens", lazy=True)
    if "sentence" not in other.items:
        raise TrainingError(
            "TCPL needs a sentence vector of every query, and this import declared none",
            where=path,
            fix="name a `teacher` encoder, or set objectives.tcpl.distance and .angle to 0",
        )
    return normalised(torch.from_numpy(np.asarray(other.items["sentence"])[_order(other, ids, path)]))
