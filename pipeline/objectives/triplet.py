"""The triplet ranking loss, on every branch of the model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pipeline.config.objectives import Objectives
from pipeline.config.objectives import Triplet as Settings
from pipeline.objectives.base import Objective, Step, own_queries


class TripletRanking(Objective):
    """The weighted triplet of every branch; hard negatives from `hard_start_epoch` on. Source: docs/method.md 6.3."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __call__(self, step: Step) -> dict[str, Tensor]:
        settings, hard = self.settings, step.epoch >= self.settings.hard_start_epoch
        terms = {}
        for branch, scores in step.scores.items():
            given: dict[str, Any] = {"hard": hard, "pool": settings.hard_pool, "generator": step.generator}
            if scores.pairwise:
                value = pairwise_triplet(scores.cosine, settings.margin, **given)
            else:
                value = triplet(scores.cosine, step.labels, settings.margin, **given)
            terms[f"triplet_{branch}"] = settings.weight * value
        return terms


def build(settings: Settings, among: Objectives) -> TripletRanking:
    """The objective of `objectives.triplet`."""
    return TripletRanking(settings)


def triplet(
    cosine: Tensor, labels: Tensor, margin: float = 0.2, *, hard: bool = False, pool: int = 20, generator: torch.Generator | None = None
) -> Tensor:
    """Triplet ranking loss in both directions.

    A video's positive is the mean of its queries; its negative a random other query, or the hardest one with `hard`. A query's
    negative is a random other video, or a random one of the `pool` hardest with `hard`. Zero when there is no other video.

    Shapes: `cosine` [Q, B], `labels` [Q] -> scalar. `generator` draws the negatives (on its own device). Source: docs/method.md 6.3.
    """
    videos = cosine.shape[1]
    if videos == 1:
        return cosine.sum() * 0.0
    own = own_queries(labels, videos)
    asked = own.any(dim=0)
    positive = (cosine * own).sum(dim=0) / own.sum(dim=0).clamp_min(1)
    others = cosine.masked_fill(own, float("-inf"))
    if hard:
        query_negative = others.max(dim=0).values
    else:
        lottery = _uniform(cosine.shape, cosine.device, generator).masked_fill(own, -1.0)
        query_negative = others.gather(0, lottery.argmax(dim=0)[None]).squeeze(0)
    video_to_text = torch.where(asked, (margin + query_negative - positive).clamp_min(0), 0.0)
    return video_to_text.sum() / asked.sum() + _against_columns(cosine, labels, margin, hard=hard, pool=pool, generator=generator)


def pairwise_triplet(
    cosine: Tensor, margin: float = 0.2, *, hard: bool = False, pool: int = 20, generator: torch.Generator | None = None
) -> Tensor:
    """Triplet ranking loss of queries with the videos of queries: each pair against its row, and against its column.

    A negative is random, or with `hard` a random one of the `pool` hardest; it may be of the same video. Zero when there is no other query.

    Shapes: `cosine` [Q, Q], column j the video of query j as it looks to query j -> scalar. Source: docs/methods.md, MS-SL.
    """
    if len(cosine) == 1:
        return cosine.sum() * 0.0
    itself = torch.arange(len(cosine), device=cosine.device)
    rows, columns = (_against_columns(sides, itself, margin, hard=hard, pool=pool, generator=generator) for sides in (cosine, cosine.T))
    return rows + columns


def _against_columns(cosine: Tensor, labels: Tensor, margin: float, *, hard: bool, pool: int, generator: torch.Generator | None) -> Tensor:
    """Each row's own column against one negative of its row. Shapes: [Q, B], `labels` [Q] -> scalar."""
    columns, own = cosine.shape[1], labels[:, None]
    if hard:
        # A whole sort: two queries with one key proposal make equal columns, and which of them goes first is what the released sort says.
        others = cosine.scatter(1, own, float("-inf")).sort(dim=1, descending=True).values
        nearest = others[:, : min(pool, columns - 1)]
        negative = nearest.gather(1, _draw(nearest.shape[1], cosine, generator)[:, None])
    else:
        draw = _draw(columns - 1, cosine, generator)[:, None]
        negative = cosine.gather(1, draw + (draw >= own))
    return (margin + negative - cosine.gather(1, own)).clamp_min(0).mean()


def _uniform(shape: torch.Size, device: torch.device, generator: torch.Generator | None) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device if generator is not None else device).to(device)


def _draw(count: int, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """One random index below `count` for every row of `like`."""
    return (_uniform(like.shape[:1], like.device, generator) * count).long().clamp_max(count - 1)
