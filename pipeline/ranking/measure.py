"""Ranking a split with the model being trained: what early stopping looks at."""

from __future__ import annotations

import torch

from pipeline.config.method import Evaluation
from pipeline.models.msc import DualBranch
from pipeline.ranking import gallery as ranking
from pipeline.ranking.data import Split
from pipeline.ranking.metrics import ranks, recalls

VIDEOS, QUERIES = 32, 512  # encoded at once


def measure(model: DualBranch, split: Split, settings: Evaluation, device: torch.device) -> dict[str, float]:
    """Recalls and SumR of the fused score, and the SumR of each branch alone.

    Returns R@1, R@5, R@10, R@100, SumR (fused), SumR_clip, SumR_frame, in percent. Source: docs/method.md 8.
    """
    queries, limit = split.queries, model.settings.max_words
    gallery = ranking.encode_videos(model, split.videos.batches(VIDEOS, device))
    # Sorted by length, a batch holds little padding.
    order = torch.argsort(queries.offsets.diff(), stable=True)
    encoded = ranking.encode_queries(model, (queries.padded(chosen, limit, device) for chosen in order.split(QUERIES)))
    scores = ranking.score(encoded, gallery, clip_weight=settings.clip_weight, frame_weight=settings.frame_weight)
    truth = queries.video[order]
    found = {
        name: recalls(ranks(value, truth)) for name, value in (("fused", scores.fused), ("clip", scores.clip), ("frame", scores.frame))
    }
    result = {key: found["fused"][key] for key in ("R@1", "R@5", "R@10", "R@100", "SumR")}
    return result | {"SumR_clip": found["clip"]["SumR"], "SumR_frame": found["frame"]["SumR"]}
