"""What an objective is: weighted terms of a step. Each lies in a module of its own and is loaded by name; docs/extending.md adds one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.models.base import Encoded, Retriever, Scores, Videos, Words

TEACHER, TEACHER_FRAMES = "data.teacher", "data.teacher_frames"


class Step(NamedTuple):
    """One batch on its way through the model, in float32.

    `epoch` counts from 0. Shapes: `videos`, `words` as the model saw them; `labels` [Q] the query's video; `query`, `video` what the model
    encoded, with the `training_outputs` that were asked for; `scores` [Q, B] by branch; `teacher` [Q, T] frozen sentence vectors of unit
    length, or None; `teacher_frames` [B, F, T] and `teacher_sentences` [Q, T] of a frozen encoder of images and sentences, as they are, or
    None; `generator` draws negatives (None: torch's own).
    """

    epoch: int
    model: Retriever
    videos: Videos
    words: Words
    labels: Tensor
    query: Encoded
    video: Encoded
    scores: dict[str, Scores]
    teacher: Tensor | None = None
    teacher_frames: Tensor | None = None
    teacher_sentences: Tensor | None = None
    generator: torch.Generator | None = None


class Objective:
    """Weighted terms of a step. One that is an nn.Module too trains its own parameters, which no checkpoint of the model holds.

    `needs`: entries of `Retriever.provides`, `data.teacher`, and `data.teacher_frames` (with its sentences); checked before the first
    step. The module of an objective has `build(settings, among)`: its own settings, and all of `objectives:` for those that share a value.
    """

    needs: frozenset[str] = frozenset()

    def check(self, model: Retriever) -> None:
        """Refuse a model this objective cannot train, before the first step. Errors: TrainingError."""

    def __call__(self, step: Step) -> dict[str, Tensor]:
        """The weighted terms by name. Shapes: scalars."""
        raise NotImplementedError


def own_queries(labels: Tensor, videos: int) -> Tensor:
    """Which query belongs to which video. Shapes: [Q] -> bool [Q, B]."""
    return labels[:, None] == torch.arange(videos, device=labels.device)
