"""Every preset run for real: a miniature of the benchmark's layout from raw video to the result table, with tiny encoders, on a CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.config.reading import read
from pipeline.config.schema import merge
from pipeline.datasets import table
from pipeline.encoders import slowfast
from tests.datasets.miniature import KINDS, build
from tests.encoders.conftest import SIZE, SLOWFAST_CFG, clip_folder, randomised, tiny_clip
from tests.workflow.workspace import MODEL, TRAINING, Workspace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What makes a preset's encoders small: real architectures with random weights; the sampling stays the preset's."""
    folder = tmp_path_factory.mktemp("encoders")
    clip = clip_folder(folder / "clip", tiny_clip())
    motion = folder / "slowfast"
    motion.mkdir()
    (motion / "slowfast_config.json").write_text(json.dumps(SLOWFAST_CFG))
    model = randomised(slowfast.build(slowfast.read_arguments(motion / "slowfast_config.json"), 4))
    torch.save({"model_state": model.state_dict()}, motion / "slowfast_model.pyth")
    small = {"architecture": "tiny", "size": SIZE, "precision": "fp32"}
    return {"open_clip": {**small, "weights": str(clip)}, "slowfast": {**small, "weights": str(motion), "frames": 8}}


def shrunk(values: dict[str, Any], tiny: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The preset with small encoders and a small, short training; both its variants, everything else as shipped."""
    encoders = {name: tiny[settings["kind"]] for name, settings in values["encoders"].items()}
    return merge(values, {"encoders": encoders, "model": MODEL, "training": TRAINING})


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_from_raw_videos_to_the_table(kind: str, root: Path, tmp_path: Path, tiny: dict[str, dict[str, Any]]) -> None:
    annotations = root.parent / "shared" / "annotations" / kind
    mini = build(kind, tmp_path / "data", annotations if annotations.is_dir() else None)
    values = merge(read(root / "config" / f"{kind}.yaml"), {"dataset": mini.values})
    workspace = Workspace(tmp_path / "work", shrunk(values, tiny))
    workspace.snakemake()
    written = table.load(workspace.results / "annotations.h5")
    assert list(workspace.config["experiments"]) == ["main", "paper"]
    for experiment, variant in (("main", "released"), ("paper", "paper")):
        metrics = json.loads((workspace.results / "runs" / experiment / "seed9527" / "metrics.json").read_text())
        assert metrics["variant"] == variant
        assert (metrics["gallery"]["name"], metrics["gallery"]["videos"]) == (mini.values["gallery"], 4)
        assert metrics["gallery"]["queries"] == int((written.queries["split"] == "test").sum())
        assert metrics["selection_split"] == "test"
    shown = (workspace.results / "table.md").read_text()
    for part in ("main", "paper", "zero-shot", "Published numbers on a gallery of ", f"{mini.values['gallery']}, 4"):
        assert part in shown


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_preset_is_planned(kind: str, root: Path, tmp_path: Path) -> None:
    """At its real size, without weights: a dry run needs none."""
    mini = build(kind, tmp_path / "data")
    workspace = Workspace(tmp_path / "work", merge(read(root / "config" / f"{kind}.yaml"), {"dataset": mini.values}))
    planned = workspace.planned()
    frames, encoders = 1, len(workspace.config["encoders"])
    assert (planned["annotations"], planned["frames"], planned["features"], planned["text"]) == (1, frames, encoders, 1)
    assert (planned["clips"], planned["train"], planned["evaluate"], planned["table"]) == (2, 2, 2, 1)  # released and paper
