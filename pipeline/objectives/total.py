"""The whole objective: the objectives that are switched on, loaded by name, and what the model adds of its own."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from pipeline.config.objectives import Objectives
from pipeline.core import plugins
from pipeline.core.errors import TrainingError
from pipeline.models.base import Encoded, Retriever, Videos, Words
from pipeline.objectives.base import TEACHER, TEACHER_FRAMES, Objective, Step


class Total(nn.Module):
    """Every switched-on objective by its weight; those that are modules are trained with the model. Source: docs/method.md 6.7."""

    def __init__(self, settings: Objectives) -> None:
        super().__init__()
        own = settings.own
        self.objectives: dict[str, Objective] = {
            name: plugins.load("objectives", kind).build(own.get(name) or getattr(settings, name), settings)
            for name, kind in settings.active.items()
        }
        self.trained = nn.ModuleDict({name: value for name, value in self.objectives.items() if isinstance(value, nn.Module)})

    @property
    def needs(self) -> frozenset[str]:
        """What the objectives ask of model and data."""
        return frozenset[str]().union(*(objective.needs for objective in self.objectives.values()))

    def check(self, model: Retriever, *, teacher: bool, teacher_frames: bool = False) -> None:
        """Refuse, before the first step, to train what cannot be. Errors: TrainingError naming the objective and what it needs."""
        provided = model.provides | {name for name, there in ((TEACHER, teacher), (TEACHER_FRAMES, teacher_frames)) if there}
        for name, objective in self.objectives.items():
            if missing := sorted(objective.needs - provided):
                raise TrainingError(
                    f"objectives.{name} needs {', '.join(missing)}, which {model.settings.kind!r} on this data does not provide",
                    where=f"objectives.{name}",
                    fix="set its weight to 0, or choose a model that provides it (docs/extending.md lists the names)",
                )
            objective.check(model)
        if not self.objectives and type(model).terms is Retriever.terms:
            raise TrainingError("every objective has weight 0: there is nothing to train", where="objectives", fix="give one a weight")

    def forward(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and its weighted, detached terms, which sum to it. Shapes: scalars."""
        terms: dict[str, Tensor] = {}
        with torch.autocast(step.labels.device.type, enabled=False):
            for objective in self.objectives.values():
                terms |= objective(step)
            terms |= step.model.terms(step)
        return torch.stack(list(terms.values())).sum(), {name: value.detach() for name, value in terms.items()}


def step_of(
    model: Retriever,
    videos: Videos,
    words: Words,
    labels: Tensor,
    teacher: Tensor | None,
    *,
    teacher_frames: Tensor | None = None,
    teacher_sentences: Tensor | None = None,
    needs: Collection[str] = (),
    epoch: int = 0,
    precision: torch.dtype = torch.float32,
    generator: torch.Generator | None = None,
) -> Step:
    """Encode and score a batch; the encoders compute in `precision`, the scores in float32. Shapes: see `Step`."""
    device = labels.device.type
    model.begin(epoch)
    with torch.autocast(device, precision, enabled=precision != torch.float32):
        video, query = model.encode_videos(videos), model.encode_queries(words)
        video |= model.training_outputs(video, needs)
    # Sums of exponentials and differences of distances need float32, whatever the encoders computed in.
    with torch.autocast(device, enabled=False):
        query, video = _full(query), _full(video)
        scores = model.score(query, video, labels)
        return Step(epoch, model, videos, words, labels, query, video, scores, teacher, teacher_frames, teacher_sentences, generator)


def _full(encoded: Encoded) -> Encoded:
    return {name: value.float() if value.dtype in (torch.float16, torch.bfloat16) else value for name, value in encoded.items()}
