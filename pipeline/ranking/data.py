"""A split's clips and queries, read from the store in a few reads and kept in memory as they are stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.core.errors import TrainingError
from pipeline.core.store import Ragged, open_store
from pipeline.datasets import table
from pipeline.models.base import Videos, Words

_TINY = 1e-5
_ARRAYS = ("frames", "clips", "sizes", "frame_to_clip", "context")
_TIMES = ("start", "end")
_REBUILD = "delete this folder and run the workflow again"


def normalised(rows: Tensor) -> Tensor:
    """Rows divided by their length plus 1e-5, in float32. Shapes: [..., D] -> same. Source: docs/method.md 2.4."""
    rows = rows.float()
    return rows / (rows.norm(dim=-1, keepdim=True) + _TINY)


@dataclass(frozen=True)
class PooledVideos:
    """Pooled videos as the clips stage stores them.

    Shapes: `frames` [V, F, D], `clips` [V, C, D], not normalised; `sizes` [V, C] float32; `frame_to_clip` [V, F], `context` [V, C] uint8;
    `start`, `end` [V, F] and `duration` [V] in seconds, NaN where unknown.
    """

    ids: list[str]
    frames: Tensor
    clips: Tensor
    sizes: Tensor
    frame_to_clip: Tensor
    context: Tensor
    start: np.ndarray
    end: np.ndarray
    duration: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def gather(self, chosen: Tensor | slice, device: torch.device) -> Videos:
        """Some videos as a model sees them, on `device`. Shapes: `chosen` [B] int64, where the arrays are, or a slice."""
        return Videos(
            frames=normalised(self.frames[chosen].to(device)),
            clips=normalised(self.clips[chosen].to(device)),
            sizes=self.sizes[chosen].to(device),
            frame_to_clip=self.frame_to_clip[chosen].to(device),
            context=self.context[chosen].to(device),
        )

    def batches(self, size: int, device: torch.device) -> Iterator[Videos]:
        """`size` videos at a time, in order."""
        for start in range(0, len(self), size):
            yield self.gather(slice(start, start + size), device)


@dataclass(frozen=True)
class Queries:
    """Token states of the queries, flat, and the video each belongs to.

    Shapes: `words` [N, Dt], query i is rows offsets[i]:offsets[i+1]; `offsets` [Q+1] int64; `video` [Q] int64, index into `PooledVideos`;
    `teacher` [Q, T] float32 of unit length, or None when no objective needs it; `sentence` [Q, E] float32, the encoder's own sentence
    vectors, or None where the file holds none.
    """

    ids: list[str]
    video: Tensor
    words: Tensor
    offsets: Tensor
    teacher: Tensor | None
    sentence: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def padded(self, chosen: Tensor, max_words: int, device: torch.device) -> Words:
        """Words of some queries, rows normalised, cut to `max_words` and zero padded to the longest; and the mask of real words.

        Shapes: `chosen` [n] int64 -> [n, L, Dt], [n, L] float32, on `device`.
        """
        starts, lengths = self.offsets[chosen], (self.offsets[chosen + 1] - self.offsets[chosen]).clamp_max(max_words)
        position = torch.arange(int(lengths.max()))
        mask = position < lengths[:, None]
        rows = self.words[((starts[:, None] + position) * mask).to(self.words.device)].to(device)
        mask = mask.to(device)
        return Words(normalised(rows) * mask[..., None], mask.float())


@dataclass(frozen=True)
class Split:
    """What is trained on, or ranked: videos, the queries about them, what had to be left out, and the annotations they come from."""

    name: str
    videos: PooledVideos
    queries: Queries
    annotations: table.Annotations
    dropped: dict[str, int] = field(default_factory=dict)

    def to(self, device: torch.device) -> Split:
        """The same with its arrays on a device."""
        videos = replace(self.videos, **{k: getattr(self.videos, k).to(device) for k in _ARRAYS})
        teacher = None if self.queries.teacher is None else self.queries.teacher.to(device)
        return replace(self, videos=videos, queries=replace(self.queries, words=self.queries.words.to(device), teacher=teacher))

    @property
    def bytes(self) -> int:
        """Memory of the arrays."""
        arrays = [self.videos.frames, self.videos.clips, self.queries.words]
        return sum(array.numel() * array.element_size() for array in arrays)


def load(
    name: str,
    *,
    annotations: Path,
    clips: Path,
    text: Path,
    teacher: Path | None = None,
    training: bool = True,
    needs_teacher: bool = True,
    spill: Path | None = None,
) -> Split:
    """Read one split.

    `clips` is the folder of the clip shards, `text` the query encoder's file, `teacher` another text encoder's (None: the query encoder's
    own last token). Videos without clips (quarantined, or not on disk) are left out with their queries and counted. For `training`, videos
    that no query asks for are left out too; otherwise they are part of the gallery. With `spill`, the large arrays lie in files of that
    folder instead of in memory.

    Errors: TrainingError when nothing is left, a query has no text, a video is in two shards, or TCPL has no teacher; StoreError.
    """
    known = table.load(annotations)
    queries = known.queries[known.queries["split"] == name]
    asked = (
        set(queries["video_id"]) if training else set(known.videos["video_id"][known.videos["split"] == name]) | set(queries["video_id"])
    )
    wanted = [video for video in known.videos["video_id"] if video in asked]
    videos = _videos(wanted, clips, name, spill)
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
    video = torch.tensor([place[v] for v in usable["video_id"]])
    with open_store(text, stage="text") as store:
        tokens = store.ragged("tokens")
        imported = str(store.attrs.get("architecture", "")).startswith("published:")
        last = not imported and store.attrs.get("teacher", "last") == "last"
    sentences = tokens.items.get("sentence")
    rows = _order(tokens, ids, text)
    lengths = torch.from_numpy(np.diff(tokens.offsets)[rows])
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    source = np.concatenate([np.arange(tokens.offsets[i], tokens.offsets[i + 1]) for i in rows])
    target = _teacher(ids, tokens, rows, text, teacher, last) if needs_teacher else None
    words = torch.from_numpy(np.ascontiguousarray(tokens.values[source]))
    sentence = None if sentences is None else torch.from_numpy(np.asarray(sentences, dtype=np.float32)[rows])
    return Split(name, videos, Queries(ids, video, words, offsets, target, sentence), known, dropped)


def _videos(wanted: list[str], folder: Path, split: str, spill: Path | None) -> PooledVideos:
    """The wanted videos that have clips, in the order wanted."""
    shards: dict[Path, list[str]] = {}
    owner: dict[str, Path] = {}
    for path in sorted(folder.glob("*.h5")):
        with open_store(path, stage="clips") as store:
            shards[path] = [str(video) for video in store.table("videos")["video_id"]]
        for video in shards[path]:
            if video in owner:
                raise TrainingError(f"video {video!r} is also in {owner[video]}", where=path, fix=_REBUILD)
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
            for name in (*_ARRAYS, *_TIMES):
                array = store.array(name)
                if name not in arrays:
                    arrays[name] = _allocate((len(kept), *array.shape[1:]), array.dtype, spill and spill / f"{split}-{name}.raw")
                if array.shape[1:] != arrays[name].shape[1:]:
                    shapes = f"{array.shape[1:]} here and {arrays[name].shape[1:]} in other shards"
                    raise TrainingError(f"{name} has shape {shapes}", where=path, fix=_REBUILD)
                arrays[name][place] = array[chosen]
    tensors = {name: torch.from_numpy(arrays[name]) if arrays else torch.zeros(0, 1, 1) for name in _ARRAYS}
    start, end = (arrays[name] if arrays else np.zeros((0, 1)) for name in _TIMES)
    return PooledVideos(kept, **tensors, start=start, end=end, duration=duration)


def shard(path: Path) -> PooledVideos:
    """Every video of one clip shard, whatever its split. Errors: StoreError."""
    with open_store(path, stage="clips") as store:
        videos = store.table("videos")
        tensors = {name: torch.from_numpy(store.array(name)) for name in _ARRAYS}
        start, end = (store.array(name) for name in _TIMES)
    return PooledVideos(
        [str(i) for i in videos["video_id"]], **tensors, start=start, end=end, duration=videos["duration"].to_numpy(np.float64)
    )


def _allocate(shape: tuple[int, ...], dtype: np.dtype, path: Path | None) -> np.ndarray:
    if path is None:
        return np.zeros(shape, dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    return np.memmap(path, dtype, "w+", shape=shape)


def _order(data: Ragged, ids: list[str], path: Path) -> list[int]:
    if missing := [query for query in ids if query not in data]:
        raise TrainingError(
            f"{len(missing)} queries have no text states, the first is {missing[0]!r}",
            where=path,
            fix="delete the file and run the workflow again",
        )
    return [data.index[query] for query in ids]


def _teacher(ids: list[str], tokens: Ragged, rows: list[int], text: Path, teacher: Path | None, last: bool) -> Tensor:
    """The frozen sentence vectors TCPL keeps the relations of.

    Another encoder's are its sentence vectors. The query encoder's own are its `last` token states ([EOS], even of a caption longer than
    `max_words`) where its sentences are made from those, as CLIP's, else its sentence vectors; in an imported text file, what the import
    declared. Shapes: [Q, T] float32, unit length. Source: docs/method.md 6.4, 10.
    """
    if teacher is None and last:
        return normalised(torch.from_numpy(tokens.values[tokens.offsets[np.asarray(rows) + 1] - 1]))
    path = teacher or text
    with open_store(path, stage="text") as store:
        other = store.ragged("tokens", lazy=True)
    if "sentence" not in other.items:
        raise TrainingError(
            "TCPL needs a sentence vector of every query, and this import declared none",
            where=path,
            fix="name a `teacher` encoder, or set objectives.tcpl.distance and .angle to 0",
        )
    return normalised(torch.from_numpy(np.asarray(other.items["sentence"])[_order(other, ids, path)]))
