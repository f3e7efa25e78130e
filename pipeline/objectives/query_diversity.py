"""Query diversity: the queries of one video keep apart (GMMFormer and GMMFormer v2)."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize, softplus

from pipeline.config.method_objectives import QueryDiversity as Settings
from pipeline.config.objectives import Objectives
from pipeline.objectives.base import Objective, Step

TINY = 1e-12


class QueryDiversity(Objective):
    """The weighted term, on the second encoding of the queries where the model makes one. Source: docs/methods.md."""

    needs = frozenset({"query.pooled"})

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __call__(self, step: Step) -> dict[str, Tensor]:
        settings, query = self.settings, step.query.get("pooled_again", step.query["pooled"])
        if settings.form == "query":
            value = per_query(query, step.labels, delta=settings.delta, alpha=settings.alpha)
        else:
            value = per_pair(query, step.labels, delta=settings.delta, alpha=settings.alpha, focus=settings.focus)
        return {"query_diversity": settings.weight * value}


def build(settings: Settings, among: Objectives) -> QueryDiversity:
    """The objective of `objectives.query_diversity`."""
    return QueryDiversity(settings)


# Both in float64: alpha multiplies the rounding of a cosine by 32 before the exponential does, and Q^2 numbers are few.


def per_query(query: Tensor, labels: Tensor, *, delta: float = 0.2, alpha: float = 32.0) -> Tensor:
    """mean_i log(1 + sum_j exp(alpha (c_ij + delta))) over the other queries j of i's video; 0 where there is none.

    Shapes: `query` [Q, H], `labels` [Q] -> scalar. Source: docs/methods.md, GMMFormer.
    """
    cosine, pairs = _pairs(query, labels)
    return softplus((alpha * (cosine + delta)).masked_fill(~pairs, float("-inf")).logsumexp(dim=1)).mean().to(query.dtype)


def per_pair(query: Tensor, labels: Tensor, *, delta: float = 0.2, alpha: float = 32.0, focus: float = 1.0) -> Tensor:
    """1/Q sum over ordered pairs of one video of (1 + c_ij)^focus log(1 + exp(alpha (c_ij + delta))); 0 where there is none.

    Shapes: `query` [Q, H], `labels` [Q] -> scalar. Source: docs/methods.md, GMMFormer v2.
    """
    cosine, pairs = _pairs(query, labels)
    first, second = pairs.nonzero(as_tuple=True)
    cosine = cosine[first, second]
    # Below -1, where rounding may put a cosine, there is no fractional power, and at -1 no slope.
    return ((1 + cosine).clamp_min(TINY) ** focus * softplus(alpha * (cosine + delta))).sum().div(len(query)).to(query.dtype)


def _pairs(query: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines in float64, and which pairs are different queries of one video. Shapes: -> [Q, Q] float64, [Q, Q] bool."""
    rows = normalize(query.double(), dim=-1)
    return rows @ rows.T, (labels[:, None] == labels).fill_diagonal_(False)
