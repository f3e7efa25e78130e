"""What the demo's encoders know, measured on held-out shots through the loaders that full-size weights go through."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.config.encoder import Sampling
from pipeline.config.encoders import OpenClip, SlowFast
from pipeline.demo import lessons
from pipeline.demo.captions import label
from pipeline.demo.pretrain_slowfast import ALPHA, CLASSES, SIZE
from pipeline.demo.scenes import FPS, Scene
from pipeline.demo.vocabulary import COLOURS, PLACES, SHAPES

WEIGHTS = Path(__file__).parent / "weights"
GRID = Sampling(every=1.0)


def clip_entry(name: str, folder: Path = WEIGHTS) -> OpenClip:
    """The configuration of a demo CLIP."""
    size = {"demo-clip-b16": 64, "demo-clip-l14": 56}[name]
    return OpenClip(architecture=name, weights=str(folder / name), size=size, sampling=GRID)


def slowfast_entry(folder: Path = WEIGHTS) -> SlowFast:
    """The configuration of the demo SlowFast."""
    weights = str(folder / "demo-slowfast")
    return SlowFast(
        architecture="demo-slowfast", weights=weights, size=SIZE, frames=FPS, fps=float(FPS), stride=1, alpha=ALPHA, sampling=GRID
    )


def _resized(frames: np.ndarray, size: int) -> Tensor:
    """Shapes: uint8 [N, S, S, 3] -> uint8 [N, size, size, 3]."""
    images = functional.interpolate(torch.from_numpy(frames).movedim(-1, 1).float(), (size, size), mode="bicubic", antialias=True)
    return images.round().clamp(0, 255).to(torch.uint8).movedim(1, -1)


def examine_clip(entry: OpenClip, scenes: Sequence[Scene], frames: np.ndarray) -> dict[str, float]:
    """Accuracy (%) of naming colour, shape and place of a still by the nearest caption; R@1 and R@10 of finding it among all by its label.

    Scenes without a subject, and those that blink, are left out of the first three.
    """
    from pipeline.encoders.open_clip import load

    encoder = load(entry)
    middle = _resized(frames[:, frames.shape[1] // 2], entry.size)
    images = functional.normalize(torch.cat([encoder.encode(part) for part in middle.split(256)]), dim=-1)

    def texts(lines: Sequence[str]) -> Tensor:
        return functional.normalize(torch.stack([sentence for _, sentence, _ in encoder.encode_texts(lines)]), dim=-1)

    kept = [i for i, scene in enumerate(scenes) if scene.subject and "blink" not in (scene.motion or "")]
    shares = {}
    questions: dict[str, tuple[list[str], Callable[[Scene], str | None], Callable[[str], list[str]]]] = {
        "colour": (list(COLOURS), lambda s: s.subject and s.subject[0], lambda c: [f"{c} {shape}" for shape in SHAPES]),
        "shape": (list(SHAPES), lambda s: s.subject and s.subject[1], lambda c: [f"{colour} {c}" for colour in COLOURS]),
        "place": (list(PLACES), lambda s: s.place, lambda c: [f"{colour} ball {where}" for colour in COLOURS for where in PLACES[c]]),
    }
    for name, (options, truth, lines) in questions.items():
        prototypes = torch.stack([texts(lines(option)).mean(0) for option in options])
        answers = (images[kept] @ functional.normalize(prototypes, dim=-1).T).argmax(1).tolist()
        shares[name] = 100 * float(np.mean([options[a] == truth(scenes[i]) for a, i in zip(answers, kept, strict=True)]))
    rng = random.Random("examination")
    scores = texts([label(rng, s.subject, s.motion, s.place, s.companion) for s in scenes]) @ images.T
    rank = (scores > scores.diag()[:, None]).sum(1)
    shares |= {"R@1": 100 * float((rank < 1).float().mean()), "R@10": 100 * float((rank < 10).float().mean())}
    return {name: round(value, 1) for name, value in shares.items()}


def examine_slowfast(
    entry: SlowFast, teaching: tuple[Sequence[Scene], np.ndarray], scenes: Sequence[Scene], frames: np.ndarray
) -> dict[str, float]:
    """Accuracy (%) of naming the motion of a shot by the nearest class mean of its features, the means taken on other shots; and the same
    within pairs of opposite motions."""
    from pipeline.encoders.slowfast import load

    encoder = load(entry)

    def features(shots: np.ndarray) -> Tensor:
        parts = [
            _resized(part.reshape(-1, *part.shape[2:]), entry.size).unflatten(0, part.shape[:2])
            for part in np.array_split(shots, max(1, len(shots) // 64))
        ]
        return torch.cat([encoder.encode(part) for part in parts])

    def classes(shown: Sequence[Scene]) -> Tensor:
        return torch.tensor([CLASSES.index(scene.motion or "none") for scene in shown])

    taught, known = features(teaching[1]), classes(teaching[0])
    centre, spread = taught.mean(0), taught.std(0) + 1e-6
    means = torch.stack([((taught - centre) / spread)[known == k].mean(0) for k in range(len(CLASSES))])
    answers = torch.cdist((features(frames) - centre) / spread, means).argmin(1)
    return {"motion": round(100 * float((answers == classes(scenes)).float().mean()), 1)}


__all__ = ["WEIGHTS", "clip_entry", "examine_clip", "examine_slowfast", "lessons", "slowfast_entry"]
