"""A folder of every kind of file, good and broken, goes through the whole workflow in one go."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from benchmarks.videos import largest, prepare, table, verdicts
from pipeline.video import quarantine
from tests.video.test_shared_videos import BROKEN
from tests.workflow.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(600)]


def test_every_file_in_one_run(shared: Path, tmp_path: Path) -> None:
    work = Workspace(tmp_path, prepare(shared / "videos", tmp_path, decoder="decord"))
    work.snakemake()
    with (tmp_path / "queries.csv").open(encoding="utf-8", newline="") as file:
        asked = list(csv.DictReader(file))
    listed = {Path(row["path"]): row["code"] for row in quarantine.read(work.results / "quarantine.tsv")}
    assert {path.name: code for path, code in listed.items()} == BROKEN
    found = verdicts(work.results)
    assert len(found) == len(asked) == len(BROKEN) + sum(code == "right" for _, code in found.values())
    # Two files of one stem are two videos; their ids keep the extension.
    assert {"d_opengop_h264.mkv", "d_opengop_h264.mp4", "x_trunc60.ts", "x_trunc60.mkv"} <= set(found)
    assert {decoder for decoder, code in found.values() if code == "right"} == {"decord", "pyav"}
    # The rule for queries of quarantined videos: left out of training and measures, and counted.
    metrics = json.loads((work.results / "runs" / "main" / "seed9527" / "metrics.json").read_text())
    tested = [row["path"] for row in asked if row["split"] == "test"]
    broken = {name for name in tested if name in BROKEN}
    assert len(metrics["excluded"]["queries"]) == len(metrics["excluded"]["videos"]) == len(broken) >= 3
    assert metrics["gallery"]["queries"] == metrics["gallery"]["videos"] == len(tested) - len(broken)
    assert float(largest(work.results).split("largest ")[1].split()[0]) < 2048  # MB; an hour-long file is in one of the shards
    print(table(found))


def test_truncated_files_keep_their_frames_when_asked(shared: Path, tmp_path: Path) -> None:
    """Of the seven that end early, the five that still hold a frame."""
    (tmp_path / "videos").mkdir()
    cut = sorted(name for name, code in BROKEN.items() if code == "TRUNCATED")
    for name in cut:
        (tmp_path / "videos" / name).symlink_to((shared / "videos" / name).resolve())
    config = prepare(tmp_path / "videos", tmp_path, keep_truncated=True, max_bad_fraction=0.5)
    work = Workspace(tmp_path, config)
    work.snakemake("clips_of_all")
    found = verdicts(work.results)
    assert sorted(name for name, (_, code) in found.items() if code != "right") == ["x_trunc1000B", "x_trunc60_moovend"]
    assert {code for _, code in found.values()} == {"right", "TRUNCATED"}
