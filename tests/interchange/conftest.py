"""Tiny bundles in the layouts of the field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config.schema import Config
from pipeline.core.layout import Layout
from pipeline.core.store import create_foreign

VIDEOS = {"train": {"v_a_b": 5, "v_-c": 3}, "val": {"v_d": 4, "v_e": 1}}


class Made:
    """A bundle on disk and what was put into it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        random = np.random.default_rng(0)
        self.features = {v: random.standard_normal((n, 6)).astype(np.float32) for split in VIDEOS.values() for v, n in split.items()}
        self.captions = {
            split: [(f"{v}#enc#{k}", f"caption {k} of {v}") for v in videos for k in range(2)] for split, videos in VIDEOS.items()
        }
        ids = [cap for captions in self.captions.values() for cap, _ in captions]
        self.tokens = {cap: random.standard_normal((3 + i, 4)).astype(np.float32) for i, cap in enumerate(ids)}

    def lists(self, collection: str) -> None:
        (self.root / "TextData").mkdir(parents=True, exist_ok=True)
        for split, captions in self.captions.items():
            (self.root / "TextData" / f"{collection}{split}.caption.txt").write_text("".join(f"{c} {t}\n" for c, t in captions))

    def msc(self) -> Path:
        """The MSC layout, ActivityNet's keys without `v_`."""
        self.lists("activitynet")
        with create_foreign(self.root / "FeatureData" / "activitynet_clip_L14.h5") as put:
            for name, values in self.features.items():
                put(name.removeprefix("v_"), values)
        with create_foreign(self.root / "TextData" / "activitynet_clip_L14.h5") as put:
            for name, values in self.tokens.items():
                put(name, values)
        return self.root

    def mssl(self) -> Path:
        """The MS-SL layout: a big file whose videos are interleaved out of order, and tokens with a leading axis of one."""
        self.lists("tvr")
        folder = self.root / "FeatureData" / "i3d"
        folder.mkdir(parents=True)
        frames = [(f"{v}_{i}", self.features[v][i]) for v in reversed(list(self.features)) for i in reversed(range(len(self.features[v])))]
        (folder / "shape.txt").write_text(f"{len(frames)} 6")
        (folder / "id.txt").write_text(" ".join(name for name, _ in frames))
        (folder / "feature.bin").write_bytes(np.stack([row for _, row in frames]).astype("<f4").tobytes())
        (folder / "video2frames.txt").write_text(repr({v: [f"{v}_{i}" for i in range(len(rows))] for v, rows in self.features.items()}))
        with create_foreign(self.root / "TextData" / "roberta_tvr_query_feat.hdf5") as put:
            for name, values in self.tokens.items():
                put(name.replace("#enc#", "#"), values[None])
        return self.root

    def npz(self) -> dict[str, Any]:
        """Two encoders (the second a row longer), text with pooled vectors, clips of one source cut in two."""
        clips = {"y_t_0.0_8.0": 4, "y_t_8.0_14.0": 3, "z_0.0_4.0": 2}
        random = np.random.default_rng(1)
        for folder, width, extra in (("clip", 3, 0), ("slowfast", 2, 1)):
            (self.root / folder).mkdir(parents=True)
            for vid, rows in clips.items():
                np.savez(self.root / folder / f"{vid}.npz", features=random.standard_normal((rows + extra, width)).astype(np.float16))
        rows = [
            {"qid": 7, "query": " one  thing ", "vid": "y_t_8.0_14.0", "duration": 6, "relevant_windows": [[0, 2], [4, 6]]},
            {"qid": 9, "query": "another", "vid": "y_t_0.0_8.0", "duration": 8, "relevant_windows": [[2, 4]]},
            {"qid": 11, "query": "third", "vid": "z_0.0_4.0", "duration": 4, "relevant_windows": []},
        ]
        (self.root / "text").mkdir()
        for row in rows:
            np.savez(
                self.root / "text" / f"qid{row['qid']}.npz",
                last_hidden_state=random.standard_normal((5, 4)).astype(np.float16),
                pooler_output=random.standard_normal(4).astype(np.float16),
            )
        (self.root / "val.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {
            "annotations": {"val": self.root / "val.jsonl"},
            "videos": [self.root / "clip", self.root / "slowfast"],
            "text": self.root / "text",
        }


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "bundle")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config.model_validate(
        {
            "results": str(tmp_path / "results"),
            "dataset": {"name": "published"},
            "video": {"shard_size": 2},
            "encoders": {"clip": {"kind": "open_clip"}},
            "features": ["clip"],
            "text": "clip",
            "model": {"max_words": 5},
        }
    )


@pytest.fixture
def layout(config: Config) -> Layout:
    return config.layout
