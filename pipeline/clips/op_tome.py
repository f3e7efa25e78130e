"""Order-preserving token merging: 128 frames become 32 clips of neighbouring, similar frames (paper Algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

TINY = 1e-12


class Clips(NamedTuple):
    """Clips of a batch of videos, in temporal order.

    Shapes: `clips` [V, C, D] un-normalised, `sizes` [V, C] mass of each clip, `frame_to_clip` [V, F] int64, non-decreasing.
    """

    clips: Tensor
    sizes: Tensor
    frame_to_clip: Tensor


def op_tome(frames: Tensor, schedule: Sequence[int], similarity: str = "dot", sizes: Tensor | None = None) -> Clips:
    """Merge neighbours step by step until `schedule[-1]` clips are left.

    A step looks at the disjoint pairs (0, 1), (2, 3), ... of the current sequence (an odd last row stays alone) and merges the most
    similar ones by size-weighted mean; among equal similarities the earlier pair goes first. Order is kept, so clips are contiguous.

    Shapes: `frames` [V, F, D] un-normalised; `sizes` [V, F] mass of each frame (1 by default) -> Clips. `similarity`: "dot" of the raw
    rows (released) or "cosine" (paper). ValueError for a step that would need more pairs than there are. Source: paper Algorithm 1,
    METHODS 6.2.
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
    return Clips(rows, sizes, labels)


def uniform(frames: Tensor, clips: int, sizes: Tensor | None = None) -> Clips:
    """Clips of equal length: frame j belongs to clip floor(j * clips / F) (the ablation's and naive CBVA's). Shapes: as `op_tome`."""
    videos, length, width = frames.shape
    labels = (torch.arange(length, device=frames.device) * clips // length).expand(videos, length)
    weights = torch.ones(videos, length, dtype=frames.dtype, device=frames.device) if sizes is None else sizes
    mass = torch.zeros(videos, clips, dtype=frames.dtype, device=frames.device).scatter_add_(1, labels, weights)
    summed = torch.zeros(videos, clips, width, dtype=frames.dtype, device=frames.device)
    summed.scatter_add_(1, labels[:, :, None].expand_as(frames), frames * weights[:, :, None])
    return Clips(summed / mass[:, :, None], mass, labels)


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
    pairs = joined.shape[1]
    swallowed = torch.zeros(videos, length, dtype=torch.bool, device=rows.device)
    swallowed[:, 1 : 2 * pairs : 2] = joined
    place = (~swallowed).cumsum(dim=1) - 1
    heads = swallowed.logical_not().nonzero()[:, 1].view(videos, target)
    next_sizes = torch.where(swallowed, sizes, 0.0).roll(-1, dims=1)  # what each row swallows, 0 where nothing
    mass = sizes + next_sizes
    share = (next_sizes / mass).gather(1, heads)[:, :, None]
    kept = rows.gather(1, heads[:, :, None].expand(-1, -1, width))
    tails = rows.gather(1, (heads + 1).clamp_max(length - 1)[:, :, None].expand(-1, -1, width))
    # x + share (y - x): equal rows stay bit-equal, and a row that merges with nothing is kept as it is
    return torch.lerp(kept, tails, share), mass.gather(1, heads), place
