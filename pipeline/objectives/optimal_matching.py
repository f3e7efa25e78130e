"""Optimal matching: a video's queries and clips, paired one to one so that the cosines add up to most, draw near (GMMFormer v2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pipeline.config.method_objectives import OptimalMatching as Settings
from pipeline.config.objectives import Objectives
from pipeline.models.key_clip import places
from pipeline.models.matching import assign
from pipeline.objectives.base import Objective, Step


class OptimalMatching(Objective):
    """The weighted term, on the second encoding of the queries where the model makes one. Source: docs/methods.md, GMMFormer v2."""

    needs = frozenset({"query.pooled", "video.clips"})

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __call__(self, step: Step) -> dict[str, Tensor]:
        query = step.query.get("pooled_again", step.query["pooled"])
        return {"optimal_matching": self.settings.weight * loss(query, step.video["clips"], step.labels)}


def build(settings: Settings, among: Objectives) -> OptimalMatching:
    """The objective of `objectives.optimal_matching`."""
    return OptimalMatching(settings)


def loss(query: Tensor, clips: Tensor, labels: Tensor) -> Tensor:
    """One minus the mean cosine of all matched pairs; 0 where no video has two queries.

    Shapes: `query` [Q, H], `clips` [B, C, H], `labels` [Q] -> scalar. Source: docs/methods.md, GMMFormer v2.
    """
    queries, tokens = match(query, clips, labels)
    if not len(queries):
        return (query.sum() + clips.sum()) * 0.0
    chosen = clips[labels[queries], tokens]
    return (1 - (normalize(query[queries].double(), dim=-1) * normalize(chosen.double(), dim=-1)).sum(-1).mean()).to(query.dtype)


@torch.no_grad()
def match(query: Tensor, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The best one-to-one pairs of queries and clips in every video of at least two queries.

    Shapes: `query` [Q, H], `clips` [B, C, H], `labels` [Q] -> query [n], clip [n] int64, by video, then by query.
    """
    where = places(labels)  # one product a video instead of its clips once a query
    cosine = where.unpack(where.pack(normalize(query, dim=-1), len(clips)) @ normalize(clips, dim=-1).mT)
    return assign(cosine, labels, least=2)
