"""From a model and a split to score matrices, in chunks, without a loop over queries or videos: the one place that encodes and scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from pipeline.core.progress import track
from pipeline.models.base import Encoded, Retriever, Videos, Words
from pipeline.ranking.room import BLOCK, Room
from pipeline.ranking.split import Split, real_rows
from pipeline.ranking.windows import Windows

VIDEOS, QUERIES = 32, 512  # encoded at once
SCORED = 2048  # queries scored at once
LOCATED = 1024  # queries whose videos' frames are in memory at once


@dataclass(frozen=True)
class ScoreMatrices:
    """Cosines of a split. Shapes: `branches` [Q, V] each; `fused` [Q, V], their weighted sum."""

    branches: dict[str, Tensor]
    fused: Tensor

    @property
    def named(self) -> dict[str, Tensor]:
        """All of them by name, `fused` first."""
        return {"fused": self.fused, **self.branches}


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


def encode_videos(model: Retriever, batches: Iterable[Videos], *, videos: int = 0, room: Room | None = None) -> Encoded:
    """The gallery of some batches of videos, in their order; of `videos` for which `room` has no memory, in its files.

    Errors: ValueError when there is no batch.
    """
    with evaluating(model):
        parts = (model.gallery(model.encode_videos(batch)) for batch in batches)
        return _joined(list(parts), "video") if room is None else _in(room, parts, videos)


def encode_queries(model: Retriever, batches: Iterable[Words]) -> Encoded:
    """What ranking keeps of some batches of queries, in their order, in float32. Errors: ValueError when there is no batch."""
    with evaluating(model):
        parts = [model.asked(model.encode_queries(batch)) for batch in batches]
    return _joined([{name: value.float() for name, value in part.items()} for part in parts], "query")


def encode(
    model: Retriever, split: Split, device: torch.device, *, show: bool = False, room: Room | None = None
) -> tuple[Encoded, Encoded]:
    """Queries and gallery of a split, in its order, on `device`; `show` draws progress. A gallery without `room` lies in its files."""
    batches: Iterable[Videos] = split.videos.batches(VIDEOS, device, raw=model.settings.reads_raw_rows)
    if show:
        batches = track(batches, total=-(-len(split.videos) // VIDEOS), label="videos", unit="batch")
    gallery = encode_videos(model, batches, videos=len(split.videos), room=room)
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
    query_chunk: int | None = None,
    video_chunk: int = 32,
) -> ScoreMatrices:
    """Every query against every video, by branch and fused with `weights` (branch -> weight), `SCORED` queries at once or `query_chunk`.

    Shapes: [Q, V] each.
    Source: docs/method.md 8.1 (0.4 clip + 0.6 frame).
    """
    asked, videos, query_chunk = count(queries), count(gallery), query_chunk or SCORED
    parts: dict[str, Tensor] = {}
    with evaluating(model):
        for first in range(0, videos, video_chunk):
            some = part(gallery, slice(first, first + video_chunk), of(queries))
            for start in range(0, asked, query_chunk):
                for branch, values in model.rank(part(queries, slice(start, start + query_chunk)), some).items():
                    if branch not in parts:
                        parts[branch] = torch.empty(asked, videos, dtype=values.dtype, device=values.device)
                    parts[branch][start : start + query_chunk, first : first + video_chunk] = values
        branch, *others = model.branches
        fused = weights[branch] * parts[branch]
        for branch in others:
            fused += weights[branch] * parts[branch]
    return ScoreMatrices({branch: parts[branch] for branch in model.branches}, fused)


def of_videos(scores: ScoreMatrices, windows: Windows) -> ScoreMatrices:
    """The scores of videos, each that of its best window. Shapes: [Q, U] each -> [Q, V]."""
    return ScoreMatrices({branch: windows.best(values) for branch, values in scores.branches.items()}, windows.best(scores.fused))


def blocks(queries: int, videos: int) -> Iterator[slice]:
    """The queries, so many at a time that a matrix of their scores takes at most `BLOCK` bytes, and each is scored as among all of them.

    A product's last bits depend on how many rows it has: as long as `SCORED` queries fit, blocks begin where `score` begins a chunk.
    """
    rows = max(1, BLOCK // (4 * max(1, videos)))
    size = rows // SCORED * SCORED or rows
    for start in range(0, queries, size):
        yield slice(start, min(start + size, queries))


def by_block(found: Callable[[slice], dict[str, Tensor]], queries: int, videos: int) -> dict[str, Tensor]:
    """What a function finds of some queries, for all of them: block after block, so that no whole matrix of scores is needed."""
    parts = [found(rows) for rows in blocks(queries, videos)]
    return {name: torch.cat([some[name] for some in parts]) for name in parts[0]}


def locate(model: Retriever, queries: Encoded, gallery: Encoded, videos: Tensor, frame_count: Tensor) -> Tensor:
    """How well every frame of one chosen video answers each query; minus infinity at padding.

    Shapes: `videos` [Q] int, `frame_count` [V] rows of each video that are not padding -> [Q, F].
    """
    with evaluating(model):
        chunks = torch.arange(len(videos), device=videos.device).split(LOCATED)
        own = videos.to(of(gallery))
        found = torch.cat([model.locate(part(queries, chosen), part(gallery, own[chosen], of(queries))) for chosen in chunks])
        return found.masked_fill(~real_rows(frame_count.to(videos.device)[videos], found.shape[1]), float("-inf"))


def part(encoded: Encoded, chosen: Tensor | slice, device: torch.device | None = None) -> Encoded:
    """Some items, on `device` or where they are."""
    return {name: value[chosen].to(device) for name, value in encoded.items()}


def of(encoded: Encoded) -> torch.device:
    """The device they are on."""
    return next(iter(encoded.values())).device


def count(encoded: Encoded) -> int:
    """How many items."""
    return len(next(iter(encoded.values())))


def _joined(parts: list[Encoded], what: str) -> Encoded:
    if not parts:
        raise ValueError(f"no {what} to encode")
    return {name: torch.cat(_alike([encoded[name] for encoded in parts])) for name in parts[0]}


def _in(room: Room, parts: Iterator[Encoded], videos: int) -> Encoded:
    """The parts, of so many videos in all, joined in memory, or in the files of the room where it has no memory for them."""
    first = next(parts, {})
    each = {name: value[0].numel() * value.element_size() for name, value in first.items()}
    if room.fits(videos * sum(each.values())):
        return _joined([first, *parts] if first else [], "video")
    whole = {
        name: torch.from_numpy(room.mapped((videos * each[name],), "u1")).view(value.dtype).view(videos, *value.shape[1:])
        for name, value in first.items()
    }
    start = 0
    for some in chain([first], parts):
        for name, value in some.items():
            whole[name][start : start + len(value)] = value
        start += count(some)
    return whole


def _alike(tensors: list[Tensor]) -> list[Tensor]:
    """Rows of words are as long as the longest query of their batch: zeros make them as long as the longest of all."""
    longest = max(tensor.shape[1] if tensor.ndim > 1 else 0 for tensor in tensors)
    return [
        tensor if tensor.ndim < 2 else torch.nn.functional.pad(tensor, (0, 0) * (tensor.ndim - 2) + (0, longest - tensor.shape[1]))
        for tensor in tensors
    ]
