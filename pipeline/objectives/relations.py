"""Relations: queries are as alike as the clips they were matched with (BGM-Net)."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize

from pipeline.config.method_objectives import Relations as Settings
from pipeline.config.objectives import Objectives
from pipeline.core.errors import TrainingError
from pipeline.models.base import Retriever
from pipeline.models.bgm_net import BipartiteMatching
from pipeline.objectives.base import Objective, Step


class Relations(Objective):
    """The weighted term, 0 until the model matches. Source: docs/methods.md, BGM-Net."""

    needs = frozenset({"query.pooled", "video.clips"})

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def check(self, model: Retriever) -> None:
        """Only BGM-Net matches queries with proposals. Errors: TrainingError."""
        if not isinstance(model, BipartiteMatching):
            raise TrainingError(
                f"objectives.relations compares queries with the clips BGM-Net matches them with; {model.settings.kind!r} does not match",
                where="objectives.relations",
                fix="set its weight to 0, or take `model: {kind: bgm_net}`",
            )

    def __call__(self, step: Step) -> dict[str, Tensor]:
        model = step.model
        assert isinstance(model, BipartiteMatching)
        if not model.matching:
            return {"relations": step.query["pooled"].sum() * 0.0}
        matched = model.proposals(step.video, step.labels, model.matched(step.query, step.video, step.labels))
        return {"relations": self.settings.weight * difference(step.query["pooled"], matched)}


def build(settings: Settings, among: Objectives) -> Relations:
    """The objective of `objectives.relations`."""
    return Relations(settings)


def difference(query: Tensor, clips: Tensor) -> Tensor:
    """mean_ij |cos(q_i, q_j) - cos(m_i, m_j)| over all pairs of the batch, i = j included. Shapes: [Q, H] each -> scalar."""
    return (_cosines(query) - _cosines(clips)).abs().mean()


def _cosines(rows: Tensor) -> Tensor:
    unit = normalize(rows, dim=-1)
    return unit @ unit.T
