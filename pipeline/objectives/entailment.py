"""Entailment: a query lies in the hyperbolic cone of its video (HLFormer)."""

from __future__ import annotations

from torch import Tensor

from pipeline.config.method_objectives import Entailment as Settings
from pipeline.config.objectives import Objectives
from pipeline.core.errors import TrainingError
from pipeline.models.base import Retriever
from pipeline.models.hlformer import HlFormer
from pipeline.objectives.base import Objective, Step


class Entailment(Objective):
    """The weighted mean angle by which queries, in their second encoding where there is one, lie outside their videos' cones.

    Scales, pooling and curvature are the model's `cones`. Source: docs/methods.md, HLFormer.
    """

    needs = frozenset({"query.pooled", "video.frames", "video.clips"})

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def check(self, model: Retriever) -> None:
        """Only HLFormer has cones. Errors: TrainingError."""
        if not isinstance(model, HlFormer):
            raise TrainingError(
                f"objectives.entailment trains the cones of HLFormer, which {model.settings.kind!r} does not have",
                where="objectives.entailment",
                fix="set its weight to 0, or take `model: {kind: hlformer}`",
            )

    def __call__(self, step: Step) -> dict[str, Tensor]:
        assert isinstance(step.model, HlFormer)
        query = step.query.get("pooled_again", step.query["pooled"])
        outside = step.model.cones(step.video["frames"], step.video["clips"], query, step.labels)
        return {"entailment": self.settings.weight * outside.mean()}


def build(settings: Settings, among: Objectives) -> Entailment:
    """The objective of `objectives.entailment`."""
    return Entailment(settings)
