"""`prvr demo pretrain`: makes the demo's encoders anew, and the record of what they know."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Collection
from pathlib import Path

import numpy as np

from pipeline.demo import bpe, lessons, pretrain_clip, pretrain_slowfast
from pipeline.demo.examine import WEIGHTS, clip_entry, examine_clip, examine_slowfast, slowfast_entry
from pipeline.demo.scenes import Scene

SEED, TRAIN, HELD_OUT, TAUGHT = 0, 16384, 2048, 1024
CLIPS = (
    pretrain_clip.Recipe("demo-clip-b16", 16, size=64, patch=16, width=96, layers=3, text_width=96, embed=64, steps=2000),
    pretrain_clip.Recipe("demo-clip-l14", 14, size=56, patch=14, width=128, layers=3, text_width=128, embed=96, steps=2000),
)
SLOWFAST_STEPS = 500
NAMES = (*(recipe.name for recipe in CLIPS), "demo-slowfast")


def run(folder: Path = WEIGHTS, only: Collection[str] = NAMES, *, workers: int = 2) -> None:
    """Train the encoders named in `only` on a CPU, examine all, and write `folder`: <name>/, SHA256SUMS, held_out.json.

    Minutes for each; the same result on one machine with one version of torch, not across them.
    """
    with tempfile.TemporaryDirectory() as scratch:
        scenes, frames = _lesson("train", TRAIN, Path(scratch), workers)
        for recipe in CLIPS:
            if recipe.name in only:
                merges = bpe.learn(lessons.captions(lessons.shots("words", SEED, 8192), SEED, sentences=0.5))
                pretrain_clip.train(recipe, scenes, frames, merges, folder / recipe.name)
        if "demo-slowfast" in only:
            pretrain_slowfast.train(scenes, frames, folder / "demo-slowfast", steps=SLOWFAST_STEPS, seed=8)
        record(folder, (scenes[:TAUGHT], frames[:TAUGHT]), workers=workers)


def record(folder: Path, teaching: tuple[list[Scene], np.ndarray], *, workers: int = 2) -> None:
    """Examine the encoders of `folder` on held-out shots and write SHA256SUMS and held_out.json."""
    with tempfile.TemporaryDirectory() as scratch:
        scenes, frames = _lesson("held-out", HELD_OUT, Path(scratch), workers)
        answers = {recipe.name: examine_clip(clip_entry(recipe.name, folder), scenes, frames) for recipe in CLIPS}
        answers["demo-slowfast"] = examine_slowfast(slowfast_entry(folder), teaching, scenes, frames)
    (folder / "held_out.json").write_text(json.dumps(answers, indent=1) + "\n")
    files = sorted(file for name in NAMES for file in (folder / name).iterdir())
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(folder).as_posix()}" for file in files]
    (folder / "SHA256SUMS").write_text("\n".join(sums) + "\n")
    print(json.dumps(answers, indent=1), f"{sum(file.stat().st_size for file in files) / 1e6:.2f} MB", sep="\n")


def _lesson(purpose: str, count: int, scratch: Path, workers: int) -> tuple[list[Scene], np.ndarray]:
    """Shots and their frames, kept on disk while they are used."""
    scenes = lessons.shots(purpose, SEED, count)
    return scenes, lessons.film(scenes, scratch / f"{purpose}.npy", workers=workers)
