"""Ranks of the true video and the recalls read off them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pipeline.ranking.cutoffs import CUTOFFS

SORTED = 64  # queries whose every score is sorted at once


def ranks(scores: Tensor | np.ndarray, truth: Tensor | np.ndarray, *, chunk: int = 512) -> Tensor:
    """The 1-based rank of each query's true video; among equal scores the lower video index comes first.

    A count replaces the sort: 1 + videos scored higher + videos scored equal at a lower index, which is the rank a stable sort gives.

    Shapes: `scores` [Q, V]; `truth` [Q] int, column of the true video; returns [Q] int64. `chunk` queries are compared at once.
    Errors: ValueError when a score is not a number (it would silently rank first) or shapes do not fit.
    Source: docs/method.md 8.2; golden f_eval (`ranks_*`, `tie_ranks_stable`).
    """
    scores, truth = torch.as_tensor(scores), torch.as_tensor(truth).to(torch.int64)
    if scores.ndim != 2 or truth.shape != scores.shape[:1]:
        raise ValueError(f"scores [Q, V] and truth [Q] expected, got {tuple(scores.shape)} and {tuple(truth.shape)}")
    truth = truth.to(scores.device)
    column = torch.arange(scores.shape[1], device=scores.device)
    # Sums of float ones are many times quicker than sums of booleans; a chunk stays in the processor's cache.
    buffer = torch.empty(min(chunk, len(scores)), scores.shape[1], dtype=torch.float32, device=scores.device)
    parts = []
    for start in range(0, len(scores), chunk):
        part, own = scores[start : start + chunk], truth[start : start + chunk, None]
        if not part.sum().isfinite() and part.isnan().any():
            raise ValueError("a score is not a number")
        target, ones = part.gather(1, own), buffer[: len(part)]
        above = torch.gt(part, target, out=ones).sum(1).long()
        equal = torch.ge(part, target, out=ones).sum(1).long() - above
        # An exact tie is rare, so only the rows that have one are looked at again.
        rows = torch.nonzero(equal > 1)[:, 0]
        if len(rows):
            above[rows] += ((part[rows] == target[rows]) & (column < own[rows])).sum(1)
        parts.append(1 + above)
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)


def top(scores: Tensor, depth: int) -> Tensor:
    """The best videos of each query, equal scores in the order of the videos, as `ranks` counts them. Shapes: -> [Q, <= depth] int64.

    `topk` and not a sort of everything; which of equal scores it takes at its end is left to chance, so those rows alone are sorted.
    """
    depth = min(depth, scores.shape[1])
    values, found = scores.topk(min(depth + 1, scores.shape[1]), dim=1)
    chance = torch.nonzero(values[:, depth - 1] == values[:, depth])[:, 0] if values.shape[1] > depth else values.new_empty(0).long()
    found = found[:, :depth].sort(dim=1).values
    found = found.gather(1, scores.gather(1, found).sort(dim=1, descending=True, stable=True).indices)
    for rows in chance.split(SORTED):
        found[rows] = scores[rows].sort(dim=1, descending=True, stable=True).indices[:, :depth]
    return found


def recalls(ranks_of_queries: Tensor | np.ndarray) -> dict[str, float]:
    """R@1, R@5, R@10, R@100 in percent, SumR (their sum), and the median and mean rank.

    Shapes: `ranks_of_queries` [Q] ranks, 1 = best. Errors: ValueError when there is no query. Source: docs/method.md 8.2.
    """
    values = torch.as_tensor(ranks_of_queries).to(torch.float64)
    if values.numel() == 0:
        raise ValueError("no query to average over")
    result = {f"R@{k}": float((values <= k).double().mean() * 100) for k in CUTOFFS}
    result["SumR"] = sum(result.values())
    result["median_rank"] = float(values.quantile(0.5))
    result["mean_rank"] = float(values.mean())
    return result


def chance(videos: int) -> dict[str, float]:
    """The recalls of a random ranking of `videos` candidates, in percent."""
    result = {f"R@{k}": 100.0 * min(k, videos) / videos for k in CUTOFFS}
    return {**result, "SumR": sum(result.values())}
