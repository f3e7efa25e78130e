"""What an evaluation reads: the videos of a split from the clips files, its queries from the text file, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline.layout import Layout
from pipeline.store import Ragged, open_store

NORM_EPSILON = 1e-5  # METHODS 1.1: rows are divided by (L2 norm + 1e-5)


@dataclass
class Videos:
    """Pooled and merged rows of videos.

    Shapes: `frames` [V, Lf, D], `clips` [V, Lc, D] as stored (not normalised), `sizes` [V, Lc], `start`, `end` [V, Lf] s, `duration` [V] s.
    """

    ids: list[str]
    frames: np.ndarray
    clips: np.ndarray
    sizes: np.ndarray
    start: np.ndarray
    end: np.ndarray
    duration: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def batches(self, size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(frames, clips, sizes) of `size` videos at a time, float32, rows normalised, on `device`."""
        for first in range(0, len(self), size):
            part = slice(first, first + size)
            frames, clips, sizes = (torch.from_numpy(a[part]).to(device).float() for a in (self.frames, self.clips, self.sizes))
            yield unit(frames), unit(clips), sizes


@dataclass
class Queries:
    """Queries whose video is in the gallery and whose text is stored.

    `table` [query_id, video_id, query, group]; `tokens` ragged [n, Dt] of all stored queries; `sentence` [Q, E] or None; `truth` [Q] index
    of each one's video; `moments` ragged as (offsets [Q+1], values [n, 2] s); `dropped` query ids.
    """

    table: pd.DataFrame
    tokens: Ragged
    sentence: np.ndarray | None
    truth: Tensor
    moments: tuple[np.ndarray, np.ndarray]
    dropped: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.table)

    def lengths(self, limit: int) -> np.ndarray:
        """Tokens of each query, at most `limit`: [Q]."""
        rows = [self.tokens.index[query] for query in self.table["query_id"]]
        return np.minimum(np.diff(self.tokens.offsets)[rows], limit)

    def batches(self, order: np.ndarray, size: int, limit: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """(words [B, L, Dt], mask [B, L]) of `size` queries at a time, in `order`: normalised, cut to `limit` words, padded with zeros."""
        ids = list(self.table["query_id"])
        for first in range(0, len(order), size):
            rows = [torch.from_numpy(np.array(self.tokens[ids[i]][:limit], dtype=np.float32)) for i in order[first : first + size]]
            words = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
            lengths = torch.tensor([len(row) for row in rows], device=device)
            mask = (torch.arange(words.shape[1], device=device) < lengths[:, None]).float()
            yield unit(words), mask


def unit(rows: Tensor) -> Tensor:
    """Rows divided by their length plus a little: zero padding stays zero. Shapes: [..., D]. Source: METHODS 1.1."""
    return rows / (rows.norm(dim=-1, keepdim=True) + NORM_EPSILON)


def load_videos(layout: Layout, recipe: str, shards: Sequence[str], wanted: Sequence[str]) -> Videos:
    """The clips of the `wanted` videos, in that order; those without clips (quarantined) are left out.

    Errors: those of `open_store`.
    """
    place: dict[str, tuple[int, int]] = {}
    parts: list[dict[str, np.ndarray]] = []
    asked = set(wanted)
    names = ("frames", "clips", "sizes", "start", "end")
    for shard in shards:
        with open_store(layout.clips(recipe, shard), stage="clips") as store:
            table = store.table("videos")
            keep = np.flatnonzero(table["video_id"].isin(asked).to_numpy())
            if not len(keep):
                continue
            part = {name: store.array(name)[keep] for name in names}
            part["duration"] = table["duration"].to_numpy(dtype=np.float64)[keep]
            for row, video in enumerate(table["video_id"].to_numpy()[keep]):
                place[str(video)] = (len(parts), row)
            parts.append(part)
    found = [video for video in wanted if video in place]
    starts = np.cumsum([0, *(len(part["duration"]) for part in parts)])
    order = np.array([starts[place[video][0]] + place[video][1] for video in found], dtype=np.int64)

    def joined(name: str) -> np.ndarray:
        return np.concatenate([part.pop(name) for part in parts])[order] if parts else np.zeros((0,))

    return Videos(found, **{name: joined(name) for name in (*names, "duration")})


def load_queries(layout: Layout, text: str, split: str, videos: Sequence[str]) -> Queries:
    """The queries of a split about `videos`; those of other videos, or without stored text, are in `dropped`.

    Errors: those of `open_store`.
    """
    with open_store(layout.annotations, stage="annotations") as store:
        table, moments = store.table("queries"), store.ragged("moments")
    with open_store(layout.text(text), stage="text") as store:
        tokens = store.ragged("tokens")
    table = table[table["split"] == split].reset_index(drop=True)
    index = {video: i for i, video in enumerate(videos)}
    known = np.array([v in index and q in tokens for v, q in zip(table["video_id"], table["query_id"], strict=True)], dtype=bool)
    dropped = [str(q) for q in table["query_id"][~known]]
    table = table[known].reset_index(drop=True)
    if "group" not in table:
        table["group"] = ""
    rows = [tokens.index[query] for query in table["query_id"]]
    spans = [moments[query] for query in table["query_id"]]
    return Queries(
        table=table,
        tokens=tokens,
        sentence=np.asarray(tokens.items["sentence"], dtype=np.float32)[rows] if "sentence" in tokens.items else None,
        truth=torch.tensor([index[video] for video in table["video_id"]], dtype=torch.int64),
        moments=(np.cumsum([0, *(len(span) for span in spans)]), np.concatenate(spans) if spans else np.zeros((0, 2))),
        dropped=dropped,
    )


def gallery(layout: Layout, split: str) -> pd.DataFrame:
    """[video_id, duration] of every video of a split, with or without queries, in the annotations' order. Source: METHODS 1.5 (pool)."""
    with open_store(layout.annotations, stage="annotations") as store:
        videos = store.table("videos")
    return videos[videos["split"] == split].reset_index(drop=True)
