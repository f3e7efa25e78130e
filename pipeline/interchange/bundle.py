"""What a published feature bundle holds, whatever its layout: caption lists, video rows, text rows, and times where known."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np

from pipeline.core.errors import BundleError
from pipeline.datasets.rows import Query

MOST_ROWS = 1_000_000  # of one video: eleven days at a row a second
MOST_VALUES = 1 << 30  # of one array: 4 GiB in float32


class Rows(Protocol):
    """Arrays by name, read one at a time; `peek` gives shape and type without the values."""

    def __contains__(self, name: object) -> bool: ...

    def __iter__(self) -> Iterator[str]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, name: str) -> np.ndarray: ...

    def peek(self, name: str) -> tuple[tuple[int, ...], np.dtype]: ...


@dataclass
class Bundle:
    """An opened bundle.

    `splits` are the caption lists by split name in file order; `videos` and `texts` the stored rows under their own keys;
    `durations` in seconds by video id; `every` seconds per row where the publisher fixed it; `sentences` one vector per caption where
    the bundle has them apart from the tokens; `collection` and `layout` say what it was recognised as.
    """

    collection: str
    layout: str
    splits: dict[str, list[Query]]
    videos: Rows
    texts: Rows
    durations: dict[str, float] = field(default_factory=dict)
    every: float | None = None
    sentences: Rows | None = None

    def captions(self) -> Iterator[Query]:
        """Every caption of every split, each id once (a list may be given under two names)."""
        seen: set[str] = set()
        for captions in self.splits.values():
            for caption in captions:
                if caption.query_id not in seen:
                    seen.add(caption.query_id)
                    yield caption

    def video_ids(self) -> list[str]:
        """Video ids by first appearance."""
        return list(dict.fromkeys(caption.video_id for captions in self.splits.values() for caption in captions))


def video_key(video_id: str, rows: Rows) -> str | None:
    """The key a video is stored under: its id, or its id without or with the `v_` of ActivityNet; None when absent."""
    candidates = (video_id, video_id.removeprefix("v_"), f"v_{video_id}")
    return next((key for key in candidates if key in rows), None)


def text_key(caption: Query, rows: Rows) -> str | None:
    """The key a caption is stored under: its caption id, that without `enc`, or moment_detr's `qid<id>`; or None."""
    candidates = (caption.cap_id, caption.cap_id.replace("#enc#", "#"), caption.query_id, f"qid{caption.query_id}")
    return next((key for key in candidates if key in rows), None)


def as_rows(array: np.ndarray) -> np.ndarray:
    """An array as rows [n, D]: a lone vector becomes one row, a leading axis of one is dropped (both occur in published files)."""
    array = np.asarray(array)
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    return array[None] if array.ndim == 1 else array


def shape_of(rows: Rows, key: str) -> tuple[int, ...]:
    """The shape `as_rows` would give, without reading the values; () for what is no array."""
    shape, _ = rows.peek(key)
    shape = shape or ()
    if len(shape) == 3 and shape[0] == 1:
        shape = shape[1:]
    return (1, *shape) if len(shape) == 1 else shape


def unusable(rows: Rows, key: str) -> str:
    """Why an array cannot be the rows of a video or caption, in words, from its shape and type alone; empty when it can."""
    _, dtype = rows.peek(key)
    shape = shape_of(rows, key)
    if dtype is None or dtype.kind not in "fiu" or dtype.itemsize > 8:
        return f"values of type {dtype}"
    if len(shape) != 2:
        return f"shape {shape}, rows [n, D] expected"
    if shape[0] > MOST_ROWS or shape[0] * shape[1] > MOST_VALUES:
        return f"shape {shape}, more than any video or sentence has"
    return ""


def leaves(name: str) -> bool:
    """Whether an id, taken as the path of a file below a folder, would lie outside it or could not be a file's name."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name


_AGAIN = "fetch the bundle again"


def _size(path: Path) -> tuple[int, int]:
    """The two numbers of a `shape.txt`. BundleError when it holds anything else."""
    words = path.read_text(encoding="latin-1").split()
    if len(words) != 2 or not all(word.isascii() and word.isdigit() and len(word) < 16 for word in words):
        raise BundleError(f"two numbers expected, it holds {' '.join(words)[:80]!r}", where=path, fix=_AGAIN)
    count, dim = map(int, words)
    if not count or not dim:
        raise BundleError("it says there are no rows", where=path, fix=_AGAIN)
    return count, dim


def _frames(path: Path) -> dict[str, list[str]]:
    """The frames of each video. A literal, never evaluated: the published reader calls eval on this file. Errors: BundleError."""
    try:
        listed = ast.literal_eval(path.read_text(encoding="latin-1"))
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:  # what literal_eval documents
        raise BundleError(f"not a dictionary literal ({str(error)[:200]})", where=path, fix=_AGAIN) from error
    if not isinstance(listed, dict):
        raise BundleError(f"a dictionary of lists of frames expected, it holds a {type(listed).__name__}", where=path, fix=_AGAIN)
    odd = [
        f"{video!r}: {str(frames)[:60]}"
        for video, frames in listed.items()
        if not isinstance(video, str) or not isinstance(frames, list | tuple) or not all(isinstance(frame, str) for frame in frames)
    ]
    if odd:
        raise BundleError("videos without a list of frame ids:\n  " + "\n  ".join(odd), where=path, fix=_AGAIN)
    return listed


class BigFile:
    """The frame features of MS-SL bundles: one flat float32 file, memory-mapped, and a list of frames per video.

    Files: `shape.txt` ("N D"), `id.txt` (N frame ids), `feature.bin` (N*D float32, little-endian), `video2frames.txt` (a dict literal).
    Errors: BundleError when a file is missing, sizes disagree, or videos name frames that are not there (all listed).
    Source: docs/datasets.md, bundle layouts.
    """

    def __init__(self, folder: Path) -> None:
        missing = [name for name in ("shape.txt", "id.txt", "feature.bin", "video2frames.txt") if not (folder / name).is_file()]
        if missing:
            raise BundleError(f"files missing: {', '.join(missing)}", where=folder, fix="unpack the bundle again")
        count, dim = _size(folder / "shape.txt")
        ids = (folder / "id.txt").read_text(encoding="latin-1").split()
        size = (folder / "feature.bin").stat().st_size
        if len(ids) != count or size != count * dim * 4:
            raise BundleError(
                f"shape.txt says {count} x {dim}, id.txt has {len(ids)} ids, feature.bin {size} bytes ({count * dim * 4} expected)",
                where=folder,
                fix="the download is incomplete: fetch the bundle again",
            )
        if len(set(ids)) != len(ids):
            raise BundleError(f"{len(ids) - len(set(ids))} frame ids are given twice", where=folder / "id.txt", fix=_AGAIN)
        self._values = np.memmap(folder / "feature.bin", dtype="<f4", mode="r", shape=(count, dim))
        index = {name: i for i, name in enumerate(ids)}
        listed = _frames(folder / "video2frames.txt")
        absent = [f"{video}: {frame}" for video, frames in listed.items() for frame in frames if frame not in index]
        if absent:
            raise BundleError(
                "frames listed but not stored:\n  " + "\n  ".join(absent), where=folder / "video2frames.txt", fix="fetch the bundle again"
            )
        self._rows = {video: np.array([index[frame] for frame in frames], dtype=np.int64) for video, frames in listed.items()}

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, name: str) -> np.ndarray:
        rows = self._rows[name]
        # Frames of a video lie together nearly always: one slice instead of a gather.
        together = len(rows) > 0 and rows[-1] - rows[0] == len(rows) - 1 and bool((np.diff(rows) == 1).all())
        return np.array(self._values[rows[0] : rows[0] + len(rows)] if together else self._values[rows])

    def peek(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
        return (len(self._rows[name]), self._values.shape[1]), self._values.dtype
