"""Linear readers of what a demo encoder's vectors say, used while it is pretrained and then thrown away."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.demo.scenes import Scene
from pipeline.demo.vocabulary import COLOURS, MOTIONS, PLACES, SHAPES


class Readers(nn.Module):
    """Linear readers of what a vector says: colour, shape, place, and for texts motion. They help learning and are thrown away.

    On images they speed up learning. On texts they keep the words that no still can show: the loss against images alone would teach the
    text tower to drop the motion, which CLIP's, having read the web, does not do.
    """

    def __init__(self, width: int, questions: Sequence[Sequence[str]]) -> None:
        super().__init__()
        self.readers = nn.ModuleList(nn.Linear(width, len(names) + 1) for names in questions)

    def forward(self, vectors: Tensor, truth: Tensor) -> Tensor:
        """Mean cross entropy. Shapes: [N, width], truth [N, questions] int64."""
        return torch.stack([functional.cross_entropy(read(vectors), truth[:, i]) for i, read in enumerate(self.readers)]).mean()


SHOWN = [list(COLOURS), list(SHAPES), list(PLACES)]
TOLD = [*SHOWN, list(MOTIONS)]


def shown(scenes: Sequence[Scene]) -> Tensor:
    """The colour, shape and place of each scene, the last class of each question where there is none. Shapes: [N, 3] int64."""
    return _numbers([(*(scene.subject or (None, None)), scene.place) for scene in scenes], SHOWN)


def told(scenes: Sequence[Scene], captions: Sequence[str]) -> Tensor:
    """What each caption says of its scene: colour, shape, and place and motion where it names them. Shapes: [N, 4] int64."""
    answers = []
    for scene, caption in zip(scenes, captions, strict=True):
        line = caption.lower()
        place = scene.place if any(where in line for where in PLACES[scene.place]) else None
        phrases = [phrase for pair in MOTIONS[scene.motion].phrases for phrase in pair] if scene.motion else []
        answers.append((*(scene.subject or (None, None)), place, scene.motion if any(phrase in line for phrase in phrases) else None))
    return _numbers(answers, TOLD)


def _numbers(answers: Sequence[Sequence[str | None]], questions: Sequence[list[str]]) -> Tensor:
    rows = [[names.index(a) if a else len(names) for names, a in zip(questions, row, strict=True)] for row in answers]
    return torch.tensor(rows)
