"""From a model and a split to score matrices, in chunks, without a loop over queries or videos: the one place that encodes and scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.core.progress import track
from pipeline.models.base import Encoded, Retriever, Videos, Words
from pipeline.ranking.split import Split, real_rows

VIDEOS, QUERIES = 32, 512  # encoded at once
LOCATED = 1024  # queries whose videos' frames are in memory at once


@dataclass(frozen=True)
class ScoreMatrices:
    """Cosines of a split. Shapes: `branches` [Q, V] each; `fused` [Q, V], their weighted sum."""

    branches: dict[str, Tensor]
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


def encode_videos(model: Retriever, batches: Iterable[Videos]) -> Encoded:
    """The gallery of some batches of videos, in their order. Errors: ValueError when there is no batch."""
    with evaluating(model):
        return _joined([model.gallery(model.encode_videos(batch)) for batch in batches], "video")


def encode_queries(model: Retriever, batches: Iterable[Words]) -> Encoded:
    """What ranking keeps of some batches of queries, in their order, in float32. Errors: ValueError when there is no batch."""
    with evaluating(model):
        parts = [model.asked(model.encode_queries(batch)) for batch in batches]
    return _joined([{name: value.float() for name, value in part.items()} for part in parts], "query")


def encode(model: Retriever, split: Split, device: torch.device, *, show: bool = False) -> tuple[Encoded, Encoded]:
    """Queries and gallery of a split, in its order, on `device`; `show` draws progress."""
    batches: Iterable[Videos] = split.videos.batches(VIDEOS, device, raw=model.settings.reads_raw_rows)
    if show:
        batches = track(batches, total=-(-len(split.videos) // VIDEOS), label="videos", unit="batch")
    gallery = encode_videos(model, batches)
    # Sorted by length, a batch holds little padding.
    order = torch.argsort(split.queries.offsets.diff(), stable=True)
    chunks: Iterable[Tensor] = order.split(QUERIES)
    if show:
        chunks = track(chunks, total=-(-len(order) // QUERIES), label="queries", unit="batch")
    encoded = encode_queries(model, (split.queries.padded(chosen, model.settings.max_words, device) for chosen in chunks))
    place = order.to(device)
    return {name: torch.empty_like(value).index_copy_(0, place, value) for name, value in encoded.items()}, gallery


def score(
    model: Retriever,
    queries: Encoded,
    gallery: Encoded,
    weights: Mapping[str, float],
    *,
    query_chunk: int = 2048,
    video_chunk: int = 32,
) -> ScoreMatrices:
    """Every query against every video, by branch and fused with `weights` (branch -> weight). Shapes: [Q, V] each.

    Source: docs/method.md 8.1 (0.4 clip + 0.6 frame).
    """
    asked, videos = count(queries), count(gallery)
    parts: dict[str, Tensor] = {}
    with evaluating(model):
        for first in range(0, videos, video_chunk):
            some = part(gallery, slice(first, first + video_chunk))
            for start in range(0, asked, query_chunk):
                for branch, values in model.rank(part(queries, slice(start, start + query_chunk)), some).items():
                    if branch not in parts:
                        parts[branch] = torch.empty(asked, videos, dtype=values.dtype, device=values.device)
                    parts[branch][start : start + query_chunk, first : first + video_chunk] = values
        branch, *others = model.branches
        fused = weights[branch] * parts[branch]
        for branch in others:
            fused = fused + weights[branch] * parts[branch]
    return ScoreMatrices({branch: parts[branch] for branch in model.branches}, fused)


def locate(model: Retriever, queries: Encoded, gallery: Encoded, videos: Tensor, frame_count: Tensor) -> Tensor:
    """How well every frame of one chosen video answers each query; minus infinity at padding.

    Shapes: `videos` [Q] int, `frame_count` [V] rows of each video that are not padding -> [Q, F].
    """
    with evaluating(model):
        chunks = torch.arange(len(videos), device=videos.device).split(LOCATED)
        found = torch.cat([model.locate(part(queries, chosen), part(gallery, videos[chosen])) for chosen in chunks])
        return found.masked_fill(~real_rows(frame_count.to(videos.device)[videos], found.shape[1]), float("-inf"))


def part(encoded: Encoded, chosen: Tensor | slice) -> Encoded:
    """Some items."""
    return {name: value[chosen] for name, value in encoded.items()}


def count(encoded: Encoded) -> int:
    """How many items."""
    return len(next(iter(encoded.values())))


def _joined(parts: list[Encoded], what: str) -> Encoded:
    if not parts:
        raise ValueError(f"no {what} to encode")
    return {name: torch.cat(_alike([encoded[name] for encoded in parts])) for name in parts[0]}


def _alike(tensors: list[Tensor]) -> list[Tensor]:
    """Rows of words are as long as the longest query of their batch: zeros make them as long as the longest of all."""
    longest = max(tensor.shape[1] if tensor.ndim > 1 else 0 for tensor in tensors)
    return [
        tensor if tensor.ndim < 2 else torch.nn.functional.pad(tensor, (0, 0) * (tensor.ndim - 2) + (0, longest - tensor.shape[1]))
        for tensor in tensors
    ]
