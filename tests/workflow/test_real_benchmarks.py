"""Real videos with their real annotation files through the shipped presets, from file to result.

Of ActivityNet and Charades-STA three videos are in the shared folder. The annotation files are whole, so all others are missing: the run
goes on with what is on disk. The encoders are the demo's, model and training are small; all else is the preset's.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from pipeline.config.inputs import Dataset
from pipeline.config.schema import merge
from pipeline.core.store import open_store
from pipeline.datasets import table
from pipeline.datasets.readers import annotated
from tests.datasets.miniature import encode
from tests.workflow.workspace import MODEL, ROOT, TRAINING, Workspace, demo_config

pytestmark = [pytest.mark.slow, pytest.mark.long]

TRAIN, TEST, CHARADES = "v_ZNVhz7ctTq0", "v_GGSY1Qvo990", "Y1HGC"


def workspace(kind: str, folder: Path, shared: Path, **dataset: object) -> Workspace:
    """The preset on the whole annotation files, going on without the videos that are absent, with the demo's CLIP."""
    preset = yaml.safe_load((ROOT / "config" / f"{kind}.yaml").read_text())
    encoder = demo_config()["encoders"]["demo-clip-l14"]
    over = {
        "dataset": {"videos": "videos", "annotations": str(shared / "annotations" / kind), "allow_missing_videos": True, **dataset},
        "encoders": {"clip-l14": {**encoder, "weights": str(ROOT / encoder["weights"])}},
        "training": TRAINING,
        "model": MODEL,
    }
    (folder / "videos").mkdir(parents=True)
    return Workspace(folder, merge(preset, over))


def metrics(work: Workspace, experiment: str) -> dict:
    return json.loads((work.results / "runs" / experiment / "seed9527" / "metrics.json").read_text())


@pytest.mark.parametrize(("gallery", "whole"), [("val_1", 14926), ("mssl", 14439)])
def test_activitynet(shared: Path, tmp_path: Path, gallery: str, whole: int) -> None:
    work = workspace("activitynet", tmp_path, shared, gallery=gallery)
    for video in (TRAIN, TEST):
        shutil.copy(shared / "videos" / f"{video}.mp4", tmp_path / "videos")
    work.snakemake()
    written = table.load(work.results / "annotations.h5")
    assert written.videos.set_index("video_id")["split"].to_dict() == {TRAIN: "train", TEST: "test"}
    queries = written.queries.set_index("query_id")["query"]
    assert queries[f"{TEST}#enc#2"] == "She then lifts it over her head before dropping it heavily to the ground."
    assert queries[f"{TRAIN}#enc#0"] == "A fluffy dog is standing on a sidewalk with a child behind it."
    missing = (work.results / "missing-videos.txt").read_text().splitlines()
    assert len(missing) == whole - 2
    assert not any(line.startswith((TRAIN, TEST)) for line in missing)
    assert f"{whole - 2} of {whole} videos are not on disk" in (work.results / "logs" / "annotations.log").read_text()
    for experiment in ("main", "paper"):
        found = metrics(work, experiment)
        assert found["gallery"] == {"name": gallery, "videos": 1, "queries": 3}
        assert found["moments"]["frame"]["queries"] == 3
        assert found["moments"]["time_line"] == {"videos": 1, "off": 0}
    shown = (work.results / "table.md").read_text()
    assert f"({gallery})" in shown
    assert "Published numbers on a gallery of " in shown


def test_charades(shared: Path, tmp_path: Path) -> None:
    work = workspace("charades", tmp_path, shared)
    shutil.copy(shared / "videos" / "univtg_charades.mp4", tmp_path / "videos" / f"{CHARADES}.mp4")
    work.snakemake("clips_of_all", "annotations")
    written = table.load(work.results / "annotations.h5")
    assert written.queries["query"].tolist() == ["a person walks in a doorway drinking some coffee.", "person drinking a glass of water."]
    assert written.moments[f"{CHARADES}#enc#0"].tolist() == [[0.2, 9.8]]
    assert len((work.results / "missing-videos.txt").read_text().splitlines()) == 6672 - 1
    with open_store(next((work.results / "features" / "clip-l14").glob("*.h5")), stage="features") as store:
        ends = store.ragged("features").columns["end"]
    assert ends[-1] == pytest.approx(30.7, abs=0.2)
    # It is a test video: without a training video there is nothing to train on, and that is said.
    said = work.snakemake()
    assert "no training queries (there are test 2): evaluate a checkpoint trained elsewhere" in said.stdout
    assert not (work.results / "runs").exists()
    # Two stand-ins under the names of real training videos, and the same command goes on to a result on the real test video.
    known = annotated(Dataset(kind="charades", annotations=str(shared / "annotations" / "charades")))
    for i, video in enumerate([video for video in known.videos if video.split == "train"][:2]):
        encode(tmp_path / "videos" / f"{video.video_id}.mp4", video.duration, i)
    work.snakemake()
    for experiment in ("main", "paper"):
        found = metrics(work, experiment)
        assert found["gallery"] == {"name": "test", "videos": 1, "queries": 2}
        assert found["moments"]["frame"]["queries"] == 2
    assert "Published numbers on a gallery of " in (work.results / "table.md").read_text()
