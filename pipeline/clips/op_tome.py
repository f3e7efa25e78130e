"""Order-preserving token merging: 128 frames become 32 clips of neighbouring, similar frames (paper Algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

TINY = 1e-12


class MergedClips(NamedTuple):
    """Clips of a batch of videos, in temporal order.

    Shapes: `clips` [V, C, D] un-normalised, `sizes` [V, C] mass of each clip, `frame_to_clip` [V, F] int64, non-decreasing.
    """

    clips: Tensor
    sizes: Tensor
    frame_to_clip: Tensor


def op_tome(frames: Tensor, schedule: Sequence[int], similarity: str = "dot", sizes: Tensor | None = None) -> MergedClips:
    """Merge neighbours step by step until `schedule[-1]` clips are left.

    A step looks at the disjoint pairs (0, 1), (2, 3), ... of the current sequence (an odd last row stays alone) and merges the most
    similar ones by size-weighted mean; among equal similarities the earlier pair goes first. Order is kept, so clips are contiguous.

    Shapes: `frames` [V, F, D] un-normalised; `sizes` [V, F] mass of each frame (1 by default). `similarity`: "dot" of the raw
    rows (released) or "cosine" (paper). ValueError for a step that would need more pairs than there are. Source: paper Algorithm 1,
    docs/method.md 3.1.
    """
    videos, length, _ = frames.shape
    sizes = torch.ones(videos, length, dtype=frames.dtype, device=frames.device) if sizes is None else sizes
    labels = torch.arange(length, device=frames.device).expand(videos, length)
    rows = frames
    for target in schedule:
        if not 0 <= rows.shape[1] - target <= rows.shape[1] // 2:
            raise ValueError(f"one step cannot merge {rows.shape[1]} rows into {target}: it joins disjoint pairs")
        joined = _most_similar(rows, rows.shape[1] - target, similarity)
        rows, sizes, place = _join(rows, sizes, joined, target)
        labels = place.gather(1, labels)
    return MergedClips(rows, sizes, labels)


def uniform(frames: Tensor, clips: int, sizes: Tensor | None = None) -> MergedClips:
    """Clips of equal length: frame j belongs to clip floor(j * clips / F) (the ablation's and naive CBVA's). Shapes: as `op_tome`."""
    videos, length, width = frames.shape
    labels = (torch.arange(length, device=frames.device) * clips // length).expand(videos, length)
    weights = torch.ones(videos, length, dtype=frames.dtype, device=frames.device) if sizes is None else sizes
    mass = torch.zeros(videos, clips, dtype=frames.dtype, device=frames.device).scatter_add_(1, labels, weights)
    summed = torch.zeros(videos, clips, width, dtype=frames.dtype, device=frames.device)
    summed.scatter_add_(1, labels[:, :, None].expand_as(frames), frames * weights[:, :, None])
    return MergedClips(summed / mass[:, :, None], mass, labels)


def _most_similar(rows: Tensor, count: int, similarity: str) -> Tensor:
    """Which neighbouring pairs are merged: the `count` most similar. Shapes: [V, n, D] -> bool [V, n // 2]."""
    pairs = rows.shape[1] // 2
    first, second = rows[:, : 2 * pairs : 2], rows[:, 1 : 2 * pairs : 2]
    similar = torch.linalg.vecdot(first, second)
    if similarity == "cosine":
        norms = rows.norm(dim=2).clamp_min(TINY)
        similar = similar / (norms[:, : 2 * pairs : 2] * norms[:, 1 : 2 * pairs : 2])
    best = similar.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(similar, dtype=torch.bool).scatter_(1, best, True)


def _join(rows: Tensor, sizes: Tensor, joined: Tensor, target: int) -> tuple[Tensor, Tensor, Tensor]:
    """Merge the joined pairs. Shapes: [V, n, D], [V, n], bool [V, n // 2] -> [V, target, D], [V, target], new index [V, n]."""
    videos, length, width = rows.shape
    begins = torch.ones(videos, length, dtype=torch.bool, device=rows.device)
    begins[:, 1 : 2 * joined.shape[1] : 2] = ~joined
    place = begins.cumsum(dim=1) - 1
    mass = torch.zeros(videos, target, dtype=sizes.dtype, device=rows.device).scatter_add_(1, place, sizes)
    # A clip is a bag of one or two consecutive rows: this reads every row once and writes every clip once.
    every = torch.arange(videos * length, device=rows.device)
    starts = begins.flatten().nonzero().squeeze(1)
    bags = embedding_bag(every, rows.reshape(-1, width), starts, mode="sum", per_sample_weights=sizes.flatten())
    return bags.view(videos, target, width).div_(mass[:, :, None]), mass, place
