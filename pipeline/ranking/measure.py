"""Ranking a split with the model being trained: what early stopping looks at."""

from __future__ import annotations

import torch

from pipeline.config.method import Evaluation
from pipeline.models.base import Retriever
from pipeline.ranking import gallery
from pipeline.ranking.metrics import ranks, recalls
from pipeline.ranking.split import Split


def rank(model: Retriever, split: Split, settings: Evaluation, device: torch.device | str = "cpu") -> gallery.ScoreMatrices:
    """Every query of a split against every video of it, by branch and fused. Shapes: [Q, V] each."""
    queries, videos = gallery.encode(model, split, torch.device(device))
    return gallery.score(model, queries, videos, settings.fusion(model.branches))


def measure(model: Retriever, split: Split, settings: Evaluation, device: torch.device) -> dict[str, float]:
    """Recalls and SumR of the fused score, and the SumR of each branch alone.

    Returns R@1, R@5, R@10, R@100, SumR (fused), SumR_<branch>, in percent. Source: docs/method.md 8.
    """
    scores = rank(model, split, settings, device)
    fused = recalls(ranks(scores.fused, split.queries.video))
    result = {key: fused[key] for key in ("R@1", "R@5", "R@10", "R@100", "SumR")}
    return result | {f"SumR_{branch}": recalls(ranks(value, split.queries.video))["SumR"] for branch, value in scores.branches.items()}
