"""A dataset small enough to train in a second: random events, a video of several of them, queries that are noisy views of one event."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from pipeline.clips.context import contexts
from pipeline.clips.op_tome import op_tome
from pipeline.clips.recipe import recipe, recipe_name
from pipeline.config.schema import Config
from pipeline.core.layout import Layout
from pipeline.core.store import create
from pipeline.datasets.table import Annotations
from pipeline.datasets.table import save as save_annotations

DIM, TEXT = 16, 12
SMALL = {
    "features": ["clip"],
    "text": "clip",
    "encoders": {"clip": {"kind": "open_clip"}},
    "model": {"hidden": 16, "heads": 2, "widths": [None, 0.5], "dropout": 0.1, "input_dropout": 0.1},
    "training": {"epochs": 4, "batch_videos": 6, "learning_rate": 3e-3, "warmup": 0.1},
    "objectives": {"triplet": {"hard_start_epoch": 2, "hard_pool": 3}},
    "runtime": {"device": "cpu", "threads": 1},
}


@dataclass(frozen=True)
class World:
    """Where a miniature lies, and its configuration."""

    config: Config
    layout: Layout


def config(root: Path, **over: Any) -> Config:
    from pipeline.config.schema import merge

    return Config.model_validate(merge({**SMALL, "results": str(root), "dataset": {"name": "mini"}}, over))


def make(root: Path, *, train: int = 14, val: int = 8, missing: int = 0, events: int = 3, shards: int = 2, **over: Any) -> World:
    """Write annotations, clips and text of a miniature below `root`; the last `missing` training videos get no clips."""
    settings = config(root, **over)
    layout = settings.layout
    chosen = settings.experiment("main")
    random = np.random.default_rng(0)
    view = random.normal(size=(DIM, TEXT))
    ids = [f"t{i}" for i in range(train)] + [f"v{i}" for i in range(val)]
    meaning = {video: random.normal(size=(events, DIM)) for video in ids}
    queries = [(f"{video}#{e}", video, "train" if video[0] == "t" else "val", e) for video in ids for e in range(events)]
    save_annotations(
        layout.annotations,
        Annotations(
            pd.DataFrame({"video_id": ids, "split": ["train"] * train + ["val"] * val, "duration": np.full(len(ids), 30.0)}),
            pd.DataFrame(
                [
                    {"query_id": q, "video_id": v, "split": s, "query": q, "cap_id": "", "group": "", "flags": "", "extra": ""}
                    for q, v, s, _ in queries
                ]
            ),
            {q: np.zeros((0, 2)) for q, *_ in queries},
        ),
    )
    stored = [video for video in ids if video not in ids[train - missing : train]]
    for shard in range(shards):
        _clips(layout.clips(recipe_name(chosen), f"{shard:03d}"), stored[shard::shards], meaning, chosen, random)
    with create(layout.text("clip"), stage="text", encoder="clip", architecture="mini") as writer:
        for query, video, _, e in queries:
            words = random.normal(size=(int(random.integers(4, 9)), TEXT)) * 0.3
            words[1:] += meaning[video][e] @ view / 4
            sentence = words[-1].astype(np.float16)
            writer.append("tokens", query, words.astype(np.float16), None, {"sentence": sentence, "truncated": False, "key": query})
    return World(settings, layout)


def _clips(path: Path, ids: list[str], meaning: dict, chosen: Any, random: np.random.Generator) -> None:
    frames = np.stack([np.repeat(meaning[v], -(-128 // len(meaning[v])), 0)[:128] + 0.3 * random.normal(size=(128, DIM)) for v in ids])
    merged = op_tome(torch.from_numpy(frames).float(), [80, 52, 32], "dot")
    unit = merged.clips / (merged.clips.norm(dim=2, keepdim=True) + 1e-5)
    found = contexts(unit, merged.sizes, [32, 20, 12, 8, 5], 0.8)
    with create(path, stage="clips", recipe=recipe(chosen)) as writer:
        writer.table("videos", pd.DataFrame({"video_id": pd.Series(ids, dtype=object), "duration": np.full(len(ids), 30.0)}))
        writer.array("frames", frames.astype(np.float16))
        writer.array("frame_count", np.full(len(ids), 128, np.int32))
        writer.array("clips", merged.clips.numpy().astype(np.float16))
        writer.array("sizes", merged.sizes.numpy())
        writer.array("frame_to_clip", merged.frame_to_clip.numpy().astype(np.uint8))
        writer.array("context", found.assignment.numpy().astype(np.uint8))
        edges = np.linspace(0, 30, 129, dtype=np.float32)
        for name, side in (("start", edges[:-1]), ("end", edges[1:])):
            writer.array(name, np.tile(side, (len(ids), 1)))
