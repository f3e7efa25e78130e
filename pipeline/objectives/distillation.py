"""What a frozen teacher of images and sentences sees in a video's frames, inherited frame by frame (DL-DKD; docs/methods.md)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.config.method_objectives import Distillation as Settings
from pipeline.config.objectives import Objectives
from pipeline.objectives.base import TEACHER_FRAMES, Objective, Step

OUTSIDE = -1e9  # logit of a padded frame, whose share is then exactly 0


class FrameDistillation(Objective):
    """The weighted divergence of each query's frame distribution from the teacher's, its weight falling with the epochs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.needs = frozenset({f"query.{settings.query}", f"video.{settings.frames}", TEACHER_FRAMES})

    def __call__(self, step: Step) -> dict[str, Tensor]:
        assert step.teacher_frames is not None  # `needs` was checked
        assert step.teacher_sentences is not None
        settings = self.settings
        value = frame_divergence(
            step.query[settings.query],
            step.video[settings.frames],
            step.teacher_sentences,
            step.teacher_frames,
            step.labels,
            step.videos.real,
            settings.temperature,
        )
        return {"distillation": settings.weight * settings.decay**step.epoch * value}


def build(settings: Settings, among: Objectives) -> FrameDistillation:
    """The objective of `objectives.distillation`."""
    return FrameDistillation(settings)


def frame_divergence(
    query: Tensor, frames: Tensor, sentence: Tensor, seen: Tensor, labels: Tensor, mask: Tensor, temperature: float = 0.2
) -> Tensor:
    """Sum over queries of KL(teacher || student), both a softmax over the own video's frames of cosine / temperature.

    Shapes: student `query` [Q, H] and `frames` [B, F, H]; teacher `sentence` [Q, T] and `seen` [B, F, T]; `labels` [Q]; `mask` [B, F],
    1 = a frame -> scalar. Source: docs/methods.md, DL-DKD.
    """
    inside = mask[labels] > 0
    with torch.no_grad():
        target = _log_shares(own_cosines(sentence, seen, labels), inside, temperature)
    return F.kl_div(_log_shares(own_cosines(query, frames, labels), inside, temperature), target, reduction="sum", log_target=True)


def own_cosines(query: Tensor, tokens: Tensor, labels: Tensor) -> Tensor:
    """Every query against the tokens of its own video, without a copy of them per query.

    Shapes: `query` [Q, H], `tokens` [B, L, H], `labels` [Q] -> [Q, L].
    """
    videos, queries = len(tokens), len(query)
    order = torch.argsort(labels, stable=True)
    counts = torch.bincount(labels, minlength=videos)
    place = torch.empty_like(order)
    place[order] = torch.arange(queries, device=labels.device) - (counts.cumsum(0) - counts)[labels[order]]
    # Row k of a video is its k-th query; the rows past its last one stay 0.
    grouped = query.new_zeros(videos, int(counts.max()), query.shape[1])
    grouped = grouped.index_put((labels, place), F.normalize(query, dim=-1))
    return (grouped @ F.normalize(tokens, dim=-1).mT)[labels, place]


def _log_shares(cosines: Tensor, inside: Tensor, temperature: float) -> Tensor:
    return (cosines / temperature).masked_fill(~inside, OUTSIDE).log_softmax(-1)
