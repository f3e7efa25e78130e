"""A folder of videos without a caption, to an answer: `prvr index`, `prvr search`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.core.errors import ConfigError
from pipeline.tools.init import searchable
from tests.datasets.miniature import encode
from tests.workflow.workspace import ROOT, Workspace

pytestmark = pytest.mark.slow


def test_a_folder_without_captions_is_searched_by_the_frozen_encoder(finished: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "My clips (2024)"
    folder.mkdir()
    videos = sorted((finished.folder / "data" / "videos").rglob("*.mp4"))[:4]
    for video in videos[:3]:
        shutil.copy(video, folder)
    (folder / "notes.txt").write_text("no video")
    (folder / "broken.mp4").write_bytes(b"\0" * 4000)

    def prvr(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipeline.cli", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**_environment(), "PYTHONPATH": str(ROOT)})
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    # With the full-size encoder of the configuration it writes, it stops before anything is decoded: the weights are not here.
    refused = prvr("index", folder.name, check=False)
    config = tmp_path / "My-clips-2024.yaml"
    assert refused.returncode != 0
    assert "weights" in refused.stdout + refused.stderr
    assert not list(tmp_path.rglob("frames/**/*.h5"))
    written = yaml.safe_load(config.read_text())
    tiny = yaml.safe_load((ROOT / "config.yaml").read_text())["encoders"]["demo-clip-b16"]
    tiny["weights"] = str(ROOT / tiny["weights"])
    written |= {"encoders": {"clip-b16": tiny}, "video": {"max_bad_fraction": 0.5}}
    config.write_text(yaml.safe_dump(written))

    for early in (["search", "a red box"], ["serve"]):
        nothing = prvr(*early, "--config", config.name, check=False)
        assert nothing.returncode == 2
        assert f"run the workflow again (`prvr run --configfile {config.name}`)" in nothing.stderr
    said = prvr("index", folder.name)
    assert f"ask it: prvr search 'what to look for' --config {config.name}" in said.stderr
    results = tmp_path / "results" / "My-clips-2024"
    assert not (results / "runs").exists()
    assert "broken" in (results / "quarantine.tsv").read_text()
    shown = prvr("search", "a red box", "--config", config.name)
    assert "main is not trained" in shown.stderr
    assert "(zero-shot, clip-b16)" in shown.stdout
    answer = json.loads(prvr("search", "a red box", "--config", config.name, "--json", "-k", "2").stdout)
    assert len(answer["hits"]) == 2
    assert {Path(hit["paths"][0]).name for hit in answer["hits"]} <= {video.name for video in videos[:3]}
    assert all(hit["moments"] and hit["moments"][0]["start"] < hit["moments"][0]["end"] for hit in answer["hits"])

    # One more video: its shard alone runs again, and it is found.
    shutil.copy(videos[3], folder)
    prvr("index", folder.name)
    answer = json.loads(prvr("search", "a red box", "--config", config.name, "--json").stdout)
    assert len(answer["hits"]) == 4


def test_a_configuration_of_the_name_about_another_folder_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    made = {"dataset": {"kind": "own", "name": "other", "videos": "elsewhere"}, "encoders": {"clip": {"kind": "open_clip"}}}
    (tmp_path / "clips.yaml").write_text(yaml.safe_dump({**made, "features": ["clip"], "text": "clip"}))
    with pytest.raises(ConfigError, match=r"its dataset.videos is elsewhere, not .*clips"):
        searchable(tmp_path / "clips", tmp_path)
    encode(tmp_path / "clips" / "one.mp4", 1, 0)
    (tmp_path / "clips.yaml").rename(tmp_path / "away.yaml")
    config, _ = searchable(tmp_path / "clips", tmp_path)
    assert config.is_file()
    assert searchable(tmp_path / "clips", tmp_path) == (config, [f"{config} is there already"])


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}
