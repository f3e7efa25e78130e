"""Optimal matching: a video's queries and clips, paired one to one so that the cosines add up to most, draw near (GMMFormer v2)."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import normalize

from pipeline.config.method_objectives import OptimalMatching as Settings
from pipeline.config.objectives import Objectives
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

    Of more queries than clips some stay alone. All cosines are made at once and leave the device once; scipy then assigns video by video,
    tens of microseconds each.

    Shapes: `query` [Q, H], `clips` [B, C, H], `labels` [Q] -> query [n], clip [n] int64, by video, then by query.
    """
    order = labels.argsort(stable=True)
    counts = torch.bincount(labels, minlength=len(clips))
    place = torch.arange(len(labels), device=labels.device) - (counts.cumsum(0) - counts)[labels[order]]
    grouped = query.new_zeros(len(clips), int(counts.max()), query.shape[1])  # one product a video instead of its clips once a query
    grouped[labels[order], place] = normalize(query[order], dim=-1)
    cosine = (grouped @ normalize(clips, dim=-1).mT)[labels[order], place]
    # What is not finite ends the run by the loss being so, not here.
    values, owner = cosine.float().nan_to_num().cpu().numpy(), order.cpu().numpy()
    pairs, first = [], 0
    for count in counts.tolist():
        if count > 1:
            rows, columns = linear_sum_assignment(values[first : first + count], maximize=True)
            pairs.append((owner[first + rows], columns))
        first += count
    found = np.concatenate(pairs, axis=1) if pairs else np.zeros((2, 0), dtype=np.int64)
    queries, tokens = torch.from_numpy(found).to(labels.device)
    return queries, tokens
