"""The triplet ranking loss, on every branch of the model."""

from __future__ import annotations

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
            value = triplet(scores.cosine, step.labels, settings.margin, hard=hard, pool=settings.hard_pool, generator=step.generator)
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
        nearest = others.topk(min(pool, videos - 1), dim=1).values
        video_negative = nearest.gather(1, _draw(nearest.shape[1], cosine, generator)[:, None]).squeeze(1)
    else:
        lottery = _uniform(cosine.shape, cosine.device, generator).masked_fill(own, -1.0)
        query_negative = others.gather(0, lottery.argmax(dim=0)[None]).squeeze(0)
        draw = _draw(videos - 1, cosine, generator)
        video_negative = cosine.gather(1, (draw + (draw >= labels))[:, None]).squeeze(1)
    video_to_text = torch.where(asked, (margin + query_negative - positive).clamp_min(0), 0.0)
    text_to_video = (margin + video_negative - cosine.gather(1, labels[:, None]).squeeze(1)).clamp_min(0)
    return video_to_text.sum() / asked.sum() + text_to_video.mean()


def _uniform(shape: torch.Size, device: torch.device, generator: torch.Generator | None) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device if generator is not None else device).to(device)


def _draw(count: int, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """One random index below `count` for every row of `like`."""
    return (_uniform(like.shape[:1], like.device, generator) * count).long().clamp_max(count - 1)
