"""What is trained: a model, and the objective with whatever parameters of its own."""

from __future__ import annotations

from torch import nn

from pipeline.models.base import Retriever
from pipeline.objectives.total import Total


class Trainee(nn.Module):
    """A model and its objective; the checkpoint keeps the model alone."""

    def __init__(self, model: Retriever, objective: Total) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def decays(self, name: str) -> bool:
        """Whether weight decay applies to a parameter: as the model says, and to all but biases of an objective."""
        part, _, inner = name.partition(".")
        return self.model.decays(inner) if part == "model" else not name.endswith("bias")
