"""What the demo's encoders are pretrained on: one-second shots drawn independently of the demo world, through the same codec."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.torch import save
from torch import nn

from pipeline.core.progress import track
from pipeline.demo.captions import label, pick, sentence
from pipeline.demo.render import HEIGHT, WIDTH, draw, encode
from pipeline.demo.scenes import FPS, Scene
from pipeline.demo.vocabulary import COLOURS, MOTIONS, PLACES, SHAPES

SHOT = FPS  # frames of a shot: one second
_REEL = 64  # shots encoded together


def shots(purpose: str, seed: int, count: int) -> list[Scene]:
    """Scenes of one second, every part drawn uniformly and alone; a tenth shows no subject.

    The seeds are namespaced by `lessons/`, so no draw is shared with a demo world (`demo world/`) of any seed.
    """
    rng = random.Random(f"lessons/{purpose}/{seed}")
    scenes = []
    for _ in range(count):
        scene = Scene(0, SHOT, pick(rng, list(PLACES)), int(rng.random() * 2**31) + 2**31)
        if rng.random() > 0.1:
            companion = (pick(rng, list(COLOURS)), pick(rng, list(SHAPES))) if rng.random() < 0.3 else None
            scene = replace(
                scene, subject=(pick(rng, list(COLOURS)), pick(rng, list(SHAPES))), motion=pick(rng, list(MOTIONS)), companion=companion
            )
        scenes.append(scene)
    return scenes


def captions(scenes: Sequence[Scene], seed: int, sentences: float = 0.0) -> list[str]:
    """A caption per scene: a terse label, or with probability `sentences` a sentence as the demo's queries are."""
    rng = random.Random(f"lessons/captions/{seed}")
    lines = []
    for scene in scenes:
        if scene.subject and rng.random() < sentences:
            place = scene.place if rng.random() < 0.7 else None
            lines.append(
                sentence(rng, *scene.subject, motion=scene.motion if rng.random() < 0.7 else None, place=place, companion=scene.companion)
            )
        else:
            lines.append(label(rng, scene.subject, scene.motion, scene.place, scene.companion))
    return lines


def _film(scenes: Sequence[Scene], quality: int) -> np.ndarray:
    """The shots of one reel after H.264, cropped to the central square."""
    import av

    reel = io.BytesIO()
    encode(reel, (frame for scene in scenes for frame in draw(scene)), quality=quality)
    reel.seek(0)
    with av.open(reel, "r") as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    left = (WIDTH - HEIGHT) // 2
    return frames[:, :, left : left + HEIGHT].reshape(len(scenes), SHOT, HEIGHT, HEIGHT, 3)


def film(scenes: Sequence[Scene], path: Path, *, workers: int = 2) -> np.ndarray:
    """Frames of the shots as a decoder returns them, at several qualities of H.264, in the file `path` (.npy).

    Shapes: [shots, SHOT, HEIGHT, HEIGHT, 3] uint8, memory-mapped.
    """
    frames = np.lib.format.open_memmap(path, "w+", np.uint8, (len(scenes), SHOT, HEIGHT, HEIGHT, 3))
    reels = [scenes[i : i + _REEL] for i in range(0, len(scenes), _REEL)]
    qualities = [20 + 3 * (i % 4) for i in range(len(reels))]
    with ProcessPoolExecutor(workers) as pool:
        for i, reel in enumerate(track(pool.map(_film, reels, qualities), total=len(reels), label=f"film {path.stem}", unit="reels")):
            frames[i * _REEL : i * _REEL + len(reel)] = reel
    return frames


def write_weights(path: Path, model: nn.Module) -> None:
    """A model's parameters and buffers as safetensors, floats in half precision."""
    state = {name: (value.half() if value.is_floating_point() else value).contiguous() for name, value in model.state_dict().items()}
    path.write_bytes(save(state))
