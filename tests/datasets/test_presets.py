"""The shipped presets: they load, and hold the published hyper-parameters (docs/method.md 6.7)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.reading import load
from tests.datasets.miniature import KINDS

# lr, margin, dropout, (NCE clip, frame), consolidation temperature, hard start, tau
TABLE = {
    "tvr": (3e-4, 0.1, 0.2, (0.05, 0.04), 0.09, 20, 0.80),
    "activitynet": (2.5e-4, 0.2, 0.31, (0.02, 0.04), 0.6, 20, 0.80),
    "charades": (2e-4, 0.2, 0.25, (0.02, 0.04), 0.6, 20, 0.85),
    "qvhighlights": (2.5e-4, 0.2, 0.31, (0.02, 0.04), 0.6, 20, 0.70),
}


@pytest.mark.parametrize("kind", KINDS)
def test_presets_hold_the_published_values(root: Path, kind: str) -> None:
    config = load(root / "config" / f"{kind}.yaml")
    main, paper = config.experiment("main"), config.experiment("paper")
    nce, triplet = main.objectives.nce, main.objectives.triplet
    found = (main.training.learning_rate, triplet.margin, main.model.dropout, (nce.clip, nce.frame))
    assert (*found, main.model.consolidation_temperature, triplet.hard_start_epoch, main.clips.tau) == TABLE[kind]
    assert (main.evaluation.clip_weight, main.evaluation.frame_weight) == (0.4, 0.6)
    assert (main.objectives.tcpl.distance, main.objectives.tcpl.angle, main.objectives.cbva.weight) == (15, 30, 0.1)
    assert (main.variant, paper.variant, paper.clips.similarity, paper.objectives.nce.clip) == ("released", "paper", "cosine", 1.0)
    assert main.training.selection_split == main.evaluation.split == "test"
    assert config.seeds == [9527]
    every = {config.encoders[name].sampling.every for name in main.features}
    assert every == {{"tvr": 1 / 3, "qvhighlights": 2.0}.get(kind, 1.0)}
    assert main.features == (["clip-b16", "slowfast-r50"] if kind == "qvhighlights" else ["clip-l14"])


def test_the_preset_for_own_videos_keeps_its_test_split_unseen(root: Path) -> None:
    config = load(root / "config" / "own-videos.yaml")
    assert config.dataset.kind == "own"
    assert config.experiment("main").training.selection_split == "val"
