"""AMDNet's spans: a video's windows keep apart, and one of its moments answers a query better than the whole video (docs/methods.md)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pipeline.config.method_objectives import Spans as Settings
from pipeline.config.objectives import Objectives
from pipeline.objectives.base import Objective, Step


class SpanTerms(Objective):
    """The weighted diversity of the windows and relevance of the moments."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.needs = frozenset(
            ({"video.windows"} if settings.diversity else set())
            | ({"query.pooled", "video.moments", "video.summary"} if settings.relevance else set())
        )

    def __call__(self, step: Step) -> dict[str, Tensor]:
        settings, terms = self.settings, {}
        if settings.diversity:
            terms["span_diversity"] = settings.diversity * diversity(step.video["windows"], settings.overlap)
        if settings.relevance:
            query = step.query.get("pooled_again", step.query["pooled"])
            value = relevance(query, step.video["summary"], step.video["moments"], step.labels, settings.margin)
            terms["span_relevance"] = settings.relevance * value
        return terms


def build(settings: Settings, among: Objectives) -> SpanTerms:
    """The objective of `objectives.spans`."""
    return SpanTerms(settings)


def diversity(windows: Tensor, overlap: float = 0.15) -> Tensor:
    """Mean over videos of |overlap I - H H^T|^2, H the windows, each divided by its sum. Shapes: [B, E, L] -> scalar.

    Source: docs/methods.md, AMDNet.
    """
    shares = windows / windows.sum(-1, keepdim=True)
    wanted = overlap * torch.eye(windows.shape[1], dtype=windows.dtype, device=windows.device)
    return (wanted - shares @ shares.mT).square().sum((1, 2)).mean()


def relevance(query: Tensor, summary: Tensor, moments: Tensor, labels: Tensor, margin: float = 0.02) -> Tensor:
    """Mean over queries of max(0, margin + cos(q, v) - max_e cos(q, m_e)), v and m the summary and moments of the query's own video.

    Shapes: `query` [Q, H], `summary` [B, H], `moments` [B, E, H], `labels` [Q] -> scalar. Source: docs/methods.md, AMDNet.
    """
    query = normalize(query, dim=-1)
    whole = (query * normalize(summary, dim=-1)[labels]).sum(-1)
    best = torch.einsum("qh,qeh->qe", query, normalize(moments, dim=-1)[labels]).amax(-1)
    return (margin + whole - best).clamp_min(0).mean()
