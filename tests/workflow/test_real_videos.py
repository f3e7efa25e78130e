"""Real videos of the shared folder through the same workflow as an own-videos dataset, from file to features and clips."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.core.store import open_store
from tests.workflow.workspace import Workspace, demo_config

pytestmark = pytest.mark.slow

# An ActivityNet video, a Charades one, and the longest: name -> seconds.
VIDEOS = {"v_GGSY1Qvo990": 18.1, "univtg_charades": 30.7}


def test_from_file_to_features_and_clips(shared: Path, tmp_path: Path) -> None:
    files = {p.stem: p for p in (shared / "videos").iterdir()}
    longest = "d_long_1h_25fps"
    chosen = [name for name in (*VIDEOS, longest) if name in files]
    (tmp_path / "videos").mkdir()
    for name in chosen:
        shutil.copy(files[name], tmp_path / "videos")
    lines = [f"{name},something happens in {name},train" for name in chosen]
    (tmp_path / "queries.csv").write_text("\n".join(["video_id,query,split", *lines]) + "\n")
    config = {key: value for key, value in demo_config().items() if key not in ("demo", "experiments")}
    config["dataset"] = {"name": "real", "kind": "own", "videos": "videos", "annotations": "queries.csv"}
    work = Workspace(tmp_path, config)
    work.snakemake("clips_of_all")
    for encoder in config["features"]:
        with open_store(sorted((work.results / "features" / encoder).glob("*.h5"))[0], stage="features") as store:
            data = store.ragged("features")
        assert sorted(data.ids) == sorted(chosen)
        for name, seconds in VIDEOS.items():
            ends = data.columns["end"][data.rows(name)]
            assert len(ends) == max(1, round(ends[-1]))
            assert ends[-1] == pytest.approx(seconds, abs=0.2)
    clips = sorted((work.results / "clips").rglob("*.h5"))
    with open_store(clips[0], stage="clips") as store:
        assert store.array("clips").shape[:2] == (len(chosen), 32)
        assert (store.array("sizes").sum(1) == 128).all()
