"""Pretrains a tiny SlowFast of pytorchvideo to tell the motions of the lessons apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.core.progress import Meter
from pipeline.demo.lessons import write_weights
from pipeline.demo.scenes import Scene
from pipeline.demo.vocabulary import MOTIONS
from pipeline.encoders.preprocess import Normalisation
from pipeline.encoders.slowfast import MEAN, STD, build, pathways

SIZE, ALPHA, BATCH, RATE = 48, 4, 48, 4e-3
CLASSES = [*MOTIONS, "none"]
ARCHITECTURE: dict[str, Any] = {
    "slowfast_channel_reduction_ratio": [2],
    "model_depth": 18,
    "model_num_class": len(CLASSES),
    "stem_dim_outs": [12, 6],
    "stem_conv_kernel_sizes": [[1, 5, 5], [5, 5, 5]],
    "head_pool_kernel_sizes": [[3, 2, 2], [12, 2, 2]],
    "dropout_rate": 0.1,
}


def windows(frames: np.ndarray) -> list[Tensor]:
    """Shots as the SlowFast sees them. Shapes: uint8 [N, k, S, S, 3] -> pathways [N, 3, k/ALPHA, SIZE, SIZE], [N, 3, k, SIZE, SIZE]."""
    images = torch.from_numpy(np.ascontiguousarray(frames)).flatten(0, 1).movedim(-1, 1).float()
    images = functional.interpolate(images, (SIZE, SIZE), mode="bicubic", antialias=True, align_corners=False)
    images = images.round().clamp(0, 255).to(torch.uint8).movedim(1, -1).unflatten(0, frames.shape[:2])
    return [path.contiguous(memory_format=torch.channels_last_3d) for path in pathways(Normalisation(MEAN, STD)(images), ALPHA)]


def train(scenes: Sequence[Scene], frames: np.ndarray, folder: Path, *, steps: int, seed: int) -> None:
    """Train the SlowFast and write its folder: slowfast_config.json (create_slowfast arguments), slowfast_model.safetensors (float16)."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = build(ARCHITECTURE, ALPHA).to(memory_format=torch.channels_last_3d)
    truth = torch.tensor([CLASSES.index(scene.motion or "none") for scene in scenes])
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.2)
    with Meter(steps, folder.name, "step") as meter:
        for _ in range(steps):
            chosen = rng.choice(len(scenes), BATCH, replace=False)
            loss = functional.cross_entropy(model(windows(frames[chosen])), truth[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            meter.update(1, f"loss {loss.item():.3f}")
    write_weights(folder / "slowfast_model.safetensors", model)
    (folder / "slowfast_config.json").write_text(json.dumps(ARCHITECTURE, indent=1) + "\n")
