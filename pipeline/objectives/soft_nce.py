"""InfoNCE whose targets are softened where a video has few captions, by a teacher or the scores themselves (DL-DKD++; docs/methods.md)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pipeline.config.method_objectives import SoftNce as Settings
from pipeline.config.objectives import Objectives
from pipeline.core.errors import TrainingError
from pipeline.models.base import Retriever
from pipeline.models.scores import max_dot
from pipeline.objectives.base import TEACHER_FRAMES, Objective, Step, own_queries

TINY = 1e-12  # added to a target before its logarithm


class SoftInfoNce(Objective):
    """Weighted soft InfoNCE of the branches that have a weight; the share of hard targets falls with the epochs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.weights = {branch: weight for branch, weight in settings.weights.items() if weight}
        if settings.taught in self.weights:
            self.needs = frozenset({TEACHER_FRAMES})

    def check(self, model: Retriever) -> None:
        """Errors: TrainingError for a branch the model does not have."""
        if unknown := sorted(set(self.weights) - set(model.branches)):
            raise TrainingError(
                f"objectives.soft_nce weighs {', '.join(unknown)}; the branches of the model are {', '.join(model.branches)}",
                where="objectives.soft_nce",
                fix=f"weigh these, e.g. `soft_nce: {{{model.branches[0]}: 0.04}}`",
            )

    def __call__(self, step: Step) -> dict[str, Tensor]:
        settings = self.settings
        alpha, beta = shares(step.epoch, settings.start, settings.floor, settings.midpoint, settings.pace)
        hard = hard_rows(step.labels, len(step.videos.frames), alpha, by_captions=settings.order == "captions")
        terms = {}
        for branch, weight in self.weights.items():
            dot = step.scores[branch].dot
            reference = self._taught(step) if branch == settings.taught else dot
            terms[f"soft_nce_{branch}"] = weight * soft_nce(dot, step.labels, reference, *hard, alpha, beta)
        return terms

    def _taught(self, step: Step) -> Tensor:
        assert step.teacher_frames is not None  # `needs` was checked
        assert step.teacher_sentences is not None
        with torch.no_grad():
            return max_dot(step.teacher_sentences, step.teacher_frames, step.videos.real)


def build(settings: Settings, among: Objectives) -> SoftInfoNce:
    """The objective of `objectives.soft_nce`."""
    return SoftInfoNce(settings)


def shares(epoch: int, start: float = 0.8, floor: float = 0.5, midpoint: float = 800.0, pace: float = 8.0) -> tuple[float, float]:
    """Alpha, the share of hard rows and their weight, and beta, what a soft target keeps of the hard one, at an epoch (from 0).

    alpha = start s(e), beta = max(alpha, floor), s(e) = midpoint / (midpoint + exp(e / pace)). Source: docs/methods.md, DL-DKD++.
    """
    alpha = start * midpoint / (midpoint + math.exp(min(epoch / pace, 700.0)))
    return alpha, max(alpha, floor)


def hard_rows(labels: Tensor, videos: int, alpha: float, *, by_captions: bool = True) -> tuple[Tensor, Tensor]:
    """Which queries and which videos keep hard targets: the first share `alpha` of each, of the videos with most captions first.

    The released batches are sorted so; `by_captions` False takes them in the order they come. Shapes: `labels` [Q] -> bool [Q], bool [B].
    Source: docs/methods.md, DL-DKD++.
    """
    position = torch.arange(videos, device=labels.device)
    if by_captions:
        counts = torch.bincount(labels, minlength=videos)
        position = torch.argsort(torch.argsort(counts, descending=True, stable=True))
    hard_queries = torch.zeros_like(labels, dtype=torch.bool)
    hard_queries[torch.argsort(position[labels], stable=True)[: math.floor(alpha * len(labels))]] = True
    return hard_queries, position < math.floor(alpha * videos)


def soft_nce(
    dot: Tensor, labels: Tensor, reference: Tensor, hard_queries: Tensor, hard_videos: Tensor, alpha: float, beta: float
) -> Tensor:
    """InfoNCE in both directions against hard targets (weight alpha) and softened ones (weight 1 - alpha).

    A soft row's target is (1 - beta) softmax(reference) + beta of the hard one. Gradients flow through `reference`, which may be `dot`.
    A mean over no rows is 0.

    Shapes: `dot`, `reference` [Q, B]; `labels` [Q]; `hard_queries` [Q], `hard_videos` [B] bool -> scalar.
    Source: docs/methods.md, DL-DKD++.
    """
    own = own_queries(labels, dot.shape[1])
    hard = own.to(dot.dtype)
    by_query = torch.where(hard_queries[:, None], hard, (1 - beta) * reference.softmax(1) + beta * hard)
    by_video = torch.where(hard_videos, hard, (1 - beta) * reference.softmax(0) + beta * hard)
    text_to_video = dot.logsumexp(1) - (by_query * dot).sum(1)
    video_to_text = dot.logsumexp(0) - ((by_video + TINY).log() + dot).logsumexp(0)
    hardened = _mean(text_to_video, hard_queries) + _mean(video_to_text, hard_videos)
    softened = _mean(text_to_video, ~hard_queries) + _mean(video_to_text, ~hard_videos)
    return alpha * hardened + (1 - alpha) * softened


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    return torch.where(chosen, values, 0.0).sum() / chosen.sum().clamp_min(1)
