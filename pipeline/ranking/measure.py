"""Ranking a split with the model being trained: what early stopping looks at."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.config.method import Evaluation
from pipeline.models.base import Retriever
from pipeline.ranking import gallery
from pipeline.ranking.metrics import ranks, recalls
from pipeline.ranking.room import Room
from pipeline.ranking.split import Split


def rank(model: Retriever, split: Split, settings: Evaluation, device: torch.device | str = "cpu") -> gallery.ScoreMatrices:
    """Every query of a split against every video of it, by branch and fused. Shapes: [Q, V] each."""
    queries, videos = gallery.encode(model, split, torch.device(device))
    return gallery.of_videos(gallery.score(model, queries, videos, settings.fusion(model.branches)), split.windows)


def measure(model: Retriever, split: Split, settings: Evaluation, device: torch.device, room: Room | None = None) -> dict[str, float]:
    """Recalls and SumR of the fused score, and the SumR of each branch alone.

    Returns R@1, R@5, R@10, R@100, SumR (fused), SumR_<branch>, in percent. Source: docs/method.md 8.
    """
    queries, videos = gallery.encode(model, split, device, room=room)
    fusion = settings.fusion(model.branches)

    def places(rows: slice) -> dict[str, Tensor]:
        scores = gallery.of_videos(gallery.score(model, gallery.part(queries, rows), videos, fusion), split.windows)
        return {name: ranks(matrix, split.queries.video[rows]).cpu() for name, matrix in scores.named.items()}

    found = gallery.by_block(places, len(split.queries), len(split.videos))
    fused = recalls(found.pop("fused"))
    result = {key: fused[key] for key in ("R@1", "R@5", "R@10", "R@100", "SumR")}
    return result | {f"SumR_{branch}": recalls(values)["SumR"] for branch, values in found.items()}
