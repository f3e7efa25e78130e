"""What a published feature bundle holds, whatever its layout: caption lists, video rows, text rows, and times where known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from pipeline.core.errors import BundleError
from pipeline.datasets.rows import Query


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
    """The shape `as_rows` would give, without reading the values."""
    shape, _ = rows.peek(key)
    if len(shape) == 3 and shape[0] == 1:
        shape = shape[1:]
    return (1, *shape) if len(shape) == 1 else shape


class BigFile:
    """The frame features of MS-SL bundles: one flat float32 file, memory-mapped, and a list of frames per video.

    Files: `shape.txt` ("N D"), `id.txt` (N frame ids), `feature.bin` (N*D float32, little-endian), `video2frames.txt` (a dict literal).
    Errors: BundleError when a file is missing, sizes disagree, or videos name frames that are not there (all listed).
    Source: docs/datasets.md, bundle layouts.
    """

    def __init__(self, folder: Path) -> None:
        import ast

        missing = [name for name in ("shape.txt", "id.txt", "feature.bin", "video2frames.txt") if not (folder / name).exists()]
        if missing:
            raise BundleError(f"files missing: {', '.join(missing)}", where=folder, fix="unpack the bundle again")
        count, dim = (int(n) for n in (folder / "shape.txt").read_text().split())
        ids = (folder / "id.txt").read_text(encoding="latin-1").split()
        size = (folder / "feature.bin").stat().st_size
        if len(ids) != count or size != count * dim * 4:
            raise BundleError(
                f"shape.txt says {count} x {dim}, id.txt has {len(ids)} ids, feature.bin {size} bytes ({count * dim * 4} expected)",
                where=folder,
                fix="the download is incomplete: fetch the bundle again",
            )
        self._values = np.memmap(folder / "feature.bin", dtype="<f4", mode="r", shape=(count, dim))
        index = {name: i for i, name in enumerate(ids)}
        try:
            # A literal, never evaluated: the published reader calls eval on this file.
            listed: dict[str, list[str]] = ast.literal_eval((folder / "video2frames.txt").read_text(encoding="latin-1"))
        except (SyntaxError, ValueError) as error:
            raise BundleError(
                f"not a dictionary literal ({error})", where=folder / "video2frames.txt", fix="fetch the bundle again"
            ) from error
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
