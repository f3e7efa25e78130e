"""Measures where several videos answer a query: recall of any, coverage, average precision."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pipeline.ranking.cutoffs import CUTOFFS
from pipeline.ranking.metrics import ranks

PAIRS = 512  # pairs of a query and a relevant video that are ranked at once


def relevant_ranks(scores: Tensor, pairs: Tensor) -> np.ndarray:
    """The rank of every relevant video among all, in the order of metrics.ranks. Shapes: [Q, V], [P, 2] query and video -> [P] int64."""
    parts = [ranks(scores[some[:, 0]], some[:, 1]).cpu() for some in pairs.split(PAIRS)]
    return (torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)).numpy()


def per_query(ranked: np.ndarray, owner: np.ndarray, queries: int) -> dict[str, np.ndarray]:
    """Measures of each query from the ranks of its relevant videos.

    Shapes: `ranked` [P], `owner` [P] query of each -> [Q]: `relevant` how many there are, `rank` of the best one (0 without any),
    `coverage@K` |top K ∩ relevant| / |relevant|, and `AP` average precision, of queries with relevant videos; NaN for the others.
    """
    order = np.lexsort((ranked, owner))
    ranked, owner = ranked[order], owner[order]
    count = np.bincount(owner, minlength=queries)
    first = np.cumsum(count) - count
    place = np.arange(len(owner)) - first[owner] + 1  # of a video among the relevant ones of its query
    best = np.zeros(queries, dtype=np.int64)
    best[count > 0] = ranked[first[count > 0]]
    with np.errstate(invalid="ignore"):
        measures = {f"coverage@{k}": np.bincount(owner, ranked <= k, queries) / count for k in CUTOFFS}
        measures["AP"] = np.bincount(owner, place / ranked, queries) / count
    return {"relevant": count, "rank": best, **measures}


def summary(measured: dict[str, np.ndarray]) -> dict[str, float]:
    """Means over the queries with relevant videos, in percent: `any R@K` and their sum, `coverage@K`, `mAP`.

    Errors: ValueError when no query has any.
    """
    judged = measured["relevant"] > 0
    if not judged.any():
        raise ValueError("no query has a relevant video")
    result = {f"any R@{k}": float((measured["rank"][judged] <= k).mean() * 100) for k in CUTOFFS}
    result["any SumR"] = sum(result.values())
    result |= {f"coverage@{k}": float(measured[f"coverage@{k}"][judged].mean() * 100) for k in CUTOFFS}
    return {**result, "mAP": float(measured["AP"][judged].mean() * 100)}
