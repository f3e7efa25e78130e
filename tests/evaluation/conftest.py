"""A tiny dataset in the store, taken to the point where a model can be evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.clips import stage as clips
from pipeline.config.schema import Config
from pipeline.core.shards import assign
from pipeline.core.store import create
from pipeline.datasets import table
from pipeline.datasets.rows import Query, Rows, Video
from pipeline.encoders import text_stage
from pipeline.jobs import recipes
from pipeline.models.base import Dims, build
from pipeline.models.checkpoint import save_model
from tests.encoders.conftest import SIZE, clip_folder, tiny_clip

VIDEOS, QUERIES_PER_VIDEO = 12, 3
QUARANTINED = "test/03 b"  # white space and a slash, as ids of own videos may have


class World:
    """`videos` ids with features and durations; every query's sentence points at one row of its video, so zero-shot can find it."""

    def __init__(self, folder: Path, encoder: dict[str, Any] | None = None, **over: Any) -> None:
        self.config = Config.model_validate(
            {
                "results": str(folder),
                "dataset": {"name": "tiny"},
                "video": {"shard_size": 8},
                "encoders": {"clip": encoder or {"kind": "open_clip"}, "other": {"kind": "open_clip"}},
                "features": ["clip"],
                "text": "clip",
                "model": {"hidden": 16, "heads": 2, "widths": [None, 1.0], "max_words": 8},
                "clips": {"dtype": "float32"},
                "seeds": [1, 2],
                "runtime": {"device": "cpu"},
                "experiments": {"main": {}, "second": {"evaluation": {"clip_weight": 1.0, "frame_weight": 0.0}}},
                **over,
            }
        )
        self.layout = self.config.layout
        random = np.random.default_rng(0)
        ids = [f"test/{i:02d} {'ab'[i % 2]}" for i in range(VIDEOS)] + ["train/0"]
        self.ids = [video for video in ids if video.startswith("test")]
        self.rows = {
            video: random.standard_normal((int(n), 6)).astype(np.float16)
            for video, n in zip(ids, random.integers(3, 40, len(ids)), strict=True)
        }
        queries, self.target, self.words, self.sentence = [], {}, {}, {}
        for video in ids:
            for k in range(QUERIES_PER_VIDEO):
                query = f"{video}#{k}"
                row = int(random.integers(len(self.rows[video])))
                self.target[query] = row
                moment = ((float(row) * 2, float(row) * 2 + 2),) if k else ()
                queries.append(
                    Query(query, video, video.split("/")[0], f"text {k}", moment, f"{video}#enc#{k}", "motion" if k == 2 else "")
                )
                self.words[query] = random.standard_normal((int(random.integers(2, 12)), 5)).astype(np.float16)
                self.sentence[query] = (self.rows[video][row] * 3).astype(np.float16)
        videos = [Video(video, video.split("/")[0], len(self.rows[video]) * 2.0) for video in ids]
        table.save(self.layout.annotations, table.of(Rows(tuple(videos), tuple(queries), "whole")))
        for shard, members in assign(ids, 8).items():
            with create(self.layout.features("clip", shard), stage="features", dim=6) as writer:
                for video in members:
                    if video != QUARANTINED:
                        start = np.arange(len(self.rows[video])) * 2.0
                        items = {"key": "k", "duration": len(self.rows[video]) * 2.0}
                        writer.append("features", video, self.rows[video], {"start": start, "end": start + 2}, items)
            clips.run(self.config, self.layout, self.config.experiment("main"), shard)
        if encoder is not None:
            text_stage.run(self.config, self.layout, "clip", recipes.text(self.config, "clip"))
            return
        with create(self.layout.text("clip"), stage="text") as writer:
            for query in self.words:
                items = {"sentence": self.sentence[query], "truncated": False, "key": "k"}
                writer.append("tokens", query, self.words[query], None, items)

    def train(self, experiment: str, seed: int, text_dim: int = 5, weights: int | None = None, **attrs: Any) -> None:
        """A checkpoint with random weights (drawn by `weights`, else `seed`): evaluation does not care."""
        torch.manual_seed(seed if weights is None else weights)
        model = build(self.config.model.kind, self.config.model, Dims(6, text_dim))
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                torch.nn.init.normal_(parameter, std=0.5 if parameter.ndim > 1 else 0.1)
        chosen = self.config.experiment(experiment)
        attrs = {"experiment": experiment, "seed": seed, "epoch": 3, "selection_split": "test", **attrs}
        save_model(self.layout.checkpoint(experiment, seed), model.state_dict(), chosen, model.dims, **attrs)


def typeable(folder: Path, **over: Any) -> World:
    """The same with a real, tiny CLIP in `folder` as its encoder, so that any sentence can be asked."""
    weights = clip_folder(folder / "tiny-clip", tiny_clip())
    return World(folder, {"kind": "open_clip", "architecture": "tiny", "weights": str(weights), "size": SIZE}, **over)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.train("main", 1)
    return made
