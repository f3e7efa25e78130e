"""Video correlation preservation: TCPL's two terms on video rows, the alternative to CBVA in the paper's Table 2.

The paper names the two ways of choosing rows and no more; how a row is found and weighted is our reading (docs/method.md 6.8).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pipeline.config.objectives import Objectives, Tcpl
from pipeline.config.objectives import Vcp as Settings
from pipeline.core.errors import ConfigError
from pipeline.objectives.base import Objective, Step
from pipeline.objectives.tcpl import relations


class VideoCorrelation(Objective):
    """TCPL's terms between frame tokens, against the frozen rows they were encoded from."""

    needs = frozenset({"query.pooled", "video.frames"})

    def __init__(self, settings: Settings, relation: Tcpl) -> None:
        self.settings, self.relation = settings, relation

    def __call__(self, step: Step) -> dict[str, Tensor]:
        frames, labels, real = step.video["frames"], step.labels, step.videos.real
        if self.settings.rows == "retrieved":
            chosen = retrieved(step.query["pooled"], frames, labels, real)
        else:
            chosen = spread(labels, real.sum(dim=1).long()[labels])
        return relations("vcp", self.relation, self.settings.weight, frames[labels, chosen], step.videos.frames[labels, chosen])


def build(settings: Settings, among: Objectives) -> VideoCorrelation:
    """The objective of `objectives.vcp`. Errors: ConfigError where TCPL's weights, which it multiplies, are 0."""
    if not (among.tcpl.distance or among.tcpl.angle):
        raise ConfigError(
            "objectives.vcp.weight multiplies objectives.tcpl.distance and .angle, which are both 0",
            where="objectives.vcp",
            fix="set one of them, or objectives.vcp.weight to 0",
        )
    return VideoCorrelation(settings, among.tcpl)


def retrieved(query: Tensor, frames: Tensor, labels: Tensor, real: Tensor) -> Tensor:
    """For each query the row of its own video that it retrieves: the one of largest cosine.

    Shapes: [Q, H], [B, F, H], [Q], `real` [B, F], 0 at padding -> [Q] int64.
    """
    with torch.no_grad():
        cosine = torch.einsum("qh,qfh->qf", normalize(query, dim=-1), normalize(frames, dim=-1)[labels])
        return cosine.masked_fill(real[labels] == 0, float("-inf")).argmax(dim=1)


def spread(labels: Tensor, rows: Tensor) -> Tensor:
    """As many evenly spaced rows of a video as it has queries: the k-th of m is floor((k + 1/2) rows / m).

    Shapes: [Q], `rows` [Q] of the query's video -> [Q] int64.
    """
    same = labels[:, None] == labels
    before, queries = same.tril(diagonal=-1).sum(dim=1), same.sum(dim=1)
    return (2 * before + 1) * rows // (2 * queries)
