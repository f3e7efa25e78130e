"""From a model and prepared batches to score matrices, in chunks, without a loop over queries or videos."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Gallery:
    """Encoded videos. Shapes: `frames` [V, Lf, H], `clips` [V, Lc, H], both of unit length per token."""

    frames: Tensor
    clips: Tensor

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True)
class Scores:
    """Cosine score matrices. Shapes: `clip`, `frame`, `fused` [Q, V]."""

    clip: Tensor
    frame: Tensor
    fused: Tensor


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No dropout and no gradients inside the block; the model's mode is restored afterwards."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def encode_videos(model: Any, batches: Iterable[tuple[Tensor, Tensor, Tensor]]) -> Gallery:
    """Encode batches of (frames, clips, sizes), keeping unit-length tokens of both branches.

    Shapes: per batch frames [B, Lf, D], clips [B, Lc, D] (rows normalised), sizes [B, Lc]; returns V = sum of B.
    Errors: ValueError when there is no batch.
    """
    frames, clips = [], []
    with evaluating(model):
        for batch in batches:
            tokens = model.encode_video(*batch)
            frames.append(F.normalize(tokens.frames.float(), dim=-1))
            clips.append(F.normalize(tokens.clips.float(), dim=-1))
    if not frames:
        raise ValueError("no video to encode")
    return Gallery(torch.cat(frames), torch.cat(clips))


def encode_queries(model: Any, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Encode batches of (words [B, L, Dt], mask [B, L]) into pooled query vectors [Q, H], in the batches' order.

    Errors: ValueError when there is no batch.
    """
    with evaluating(model):
        found = [model.encode_query(*batch).float() for batch in batches]
    if not found:
        raise ValueError("no query to encode")
    return torch.cat(found)


def max_cosine(queries: Tensor, tokens: Tensor, *, query_chunk: int = 2048, video_chunk: int = 32) -> Tensor:
    """The best cosine of each query over each video's tokens.

    Shapes: `queries` [Q, H] (any length), `tokens` [V, L, H] of unit length; returns [Q, V]. Memory: query_chunk x video_chunk x L floats.
    Source: docs/method.md 8.1.
    """
    queries = F.normalize(queries, dim=-1)
    videos, length, hidden = tokens.shape
    found = torch.empty(len(queries), videos, dtype=queries.dtype, device=queries.device)
    for first in range(0, videos, video_chunk):
        flat = tokens[first : first + video_chunk].reshape(-1, hidden).T
        for start in range(0, len(queries), query_chunk):
            similarity = queries[start : start + query_chunk] @ flat
            found[start : start + query_chunk, first : first + video_chunk] = similarity.unflatten(1, (-1, length)).amax(-1)
    return found


def score(queries: Tensor, gallery: Gallery, *, clip_weight: float, frame_weight: float) -> Scores:
    """Score every query against every video by clip branch, frame branch and their weighted sum.

    Shapes: `queries` [Q, H]; all results [Q, V]. Source: docs/method.md 8.1 (0.4 clip + 0.6 frame).
    """
    clip, frame = (
        max_cosine(queries, gallery.clips),
        max_cosine(queries, gallery.frames),
    )
    return Scores(clip, frame, clip_weight * clip + frame_weight * frame)


def frame_similarity(queries: Tensor, frames: Tensor, videos: Tensor, *, chunk: int = 1024) -> Tensor:
    """The cosine of each query with every frame token of one chosen video.

    Shapes: `queries` [Q, H], `frames` [V, L, H] of unit length, `videos` [Q] int; returns [Q, L].
    """
    queries = F.normalize(queries, dim=-1)
    parts = [
        torch.einsum(
            "qh,qlh->ql",
            queries[start : start + chunk],
            frames[videos[start : start + chunk]],
        )
        for start in range(0, len(queries), chunk)
    ]
    return torch.cat(parts) if parts else frames.new_zeros(0, frames.shape[1])
