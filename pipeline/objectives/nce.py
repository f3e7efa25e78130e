"""InfoNCE with several positives per video, on every branch of the model."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.config.objectives import Nce, Objectives
from pipeline.core.errors import TrainingError
from pipeline.models.base import Retriever
from pipeline.objectives.base import Objective, Step, own_queries


class InfoNce(Objective):
    """Weighted InfoNCE of the branches that have a weight. Source: docs/method.md 6.2."""

    def __init__(self, settings: Nce) -> None:
        self.weights = {branch: weight for branch, weight in settings.weights.items() if weight}

    def check(self, model: Retriever) -> None:
        """The weights of `clip` and `frame` are defaults other models have no use for; all others must be branches."""
        unknown = [branch for branch in self.weights if branch not in (*model.branches, "clip", "frame")]
        if unknown or not set(self.weights) & set(model.branches):
            raise TrainingError(
                f"objectives.nce weighs {', '.join(self.weights)}; the branches of the model are {', '.join(model.branches)}",
                where="objectives.nce",
                fix=f"weigh these, e.g. `nce: {{{model.branches[0]}: 0.04}}`, or switch it off: `nce: {{clip: 0, frame: 0}}`",
            )

    def __call__(self, step: Step) -> dict[str, Tensor]:
        terms = {}
        for branch, scores in step.scores.items():
            if branch in self.weights:
                value = pairwise_nce(scores.dot) if scores.pairwise else nce(scores.dot, step.labels)
                terms[f"nce_{branch}"] = self.weights[branch] * value
        return terms


def build(settings: Nce, among: Objectives) -> InfoNce:
    """The objective of `objectives.nce`."""
    return InfoNce(settings)


def nce(dot: Tensor, labels: Tensor) -> Tensor:
    """Symmetric InfoNCE: each query against all videos, each video against all queries with its own ones as joint positives.

    mean_q[lse_v S_qv - S_q,y(q)] + mean_v[lse_q S_qv - lse_{q of v} S_qv]; videos no query belongs to are only negatives.

    Shapes: `dot` [Q, B] un-normalised scores S, `labels` [Q] index of each query's video -> scalar. Source: docs/method.md 6.2.
    """
    own = own_queries(labels, dot.shape[1])
    asked = own.any(dim=0)
    text_to_video = dot.logsumexp(dim=1) - dot.gather(1, labels[:, None]).squeeze(1)
    # The fill is finite, so a video without a query yields a finite value, which is then left out.
    positives = dot.masked_fill(~own, torch.finfo(dot.dtype).min / 2).logsumexp(dim=0)
    video_to_text = torch.where(asked, dot.logsumexp(dim=0) - positives, 0.0)
    return text_to_video.mean() + video_to_text.sum() / asked.sum()


def pairwise_nce(dot: Tensor) -> Tensor:
    """InfoNCE of queries with the videos of queries: each pair against its row and its column at once.

    mean_i[log(sum_j e^A_ij + sum_j e^A_ji) - A_ii]. The pair itself counts in both sums, and columns of the same video are negatives.

    Shapes: `dot` [Q, Q] un-normalised scores A, column j the video of query j as it looks to query j -> scalar.
    Source: docs/methods.md, MS-SL; golden losses (`pairwise_nce_*`).
    """
    return (torch.logaddexp(dot.logsumexp(dim=1), dot.logsumexp(dim=0)) - dot.diagonal()).mean()
