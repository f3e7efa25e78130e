"""What a job would fail of hours later, or be wrong of without a word, is said before the first one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from pipeline.config import reading
from pipeline.core.errors import ConfigError, DatasetError, LockedError
from pipeline.jobs import captions
from pipeline.jobs.captions import remarks, too_long, too_many
from pipeline.jobs.checks import check, claim, lost_videos
from pipeline.jobs.dag import Dag
from tests.workflow.test_rerun import queries
from tests.workflow.workspace import ROOT, Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def work(finished: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    copy = finished.copy(tmp_path / "work")
    monkeypatch.chdir(copy.folder)
    return copy


def dag(work: Workspace) -> Dag:
    work.write()
    return Dag.of(reading.load("config.yaml"))


def refused(work: Workspace) -> str:
    """What a run says that starts no job."""
    done = work.snakemake(check=False)
    assert done.returncode != 0
    assert "rule " not in done.stdout
    return done.stdout


def test_captions_that_are_cut_are_counted(work: Workspace) -> None:
    long = "the red ball rolls over the green floor and then " * 8
    queries(
        work,
        lambda table: table.assign(query=[long, f"{long} {long}", *table["query"][2:]], query_id=["q-a", "q-b", *table["query_id"][2:]]),
    )
    (said,) = too_long(dag(work))
    total = sum(1 for _ in (work.folder / "data" / "queries.csv").open()) - 1
    assert f"2 of {total} queries are longer than the 32 tokens" in said
    assert "q-b 'the red ball rolls" in said
    work.config["model"]["max_words"] = 5
    assert f"{total} of {total} queries are longer than the 5 tokens" in too_long(dag(work))[0]
    begun = work.snakemake("--until", "annotations").stdout
    assert begun.index(f"note: {total} of {total} queries are longer") < begun.index("rule annotations:")


def test_a_video_of_too_many_captions(work: Workspace) -> None:
    """TCPL's angles grow with the cube of a batch's captions, and all captions of a video are in one."""
    assert remarks(dag(work)) == []

    def many(table: pd.DataFrame) -> pd.DataFrame:
        taught = table["split"] == "train"
        one = table[taught].head(1)
        return pd.concat([table[~taught], one.loc[one.index.repeat(2_100)].assign(query_id=[f"many-{i}" for i in range(2_100)])])

    queries(work, many)
    crowded = dag(work)
    (said,) = too_many(crowded)
    assert said.startswith(
        f"a batch of {', '.join(crowded.names())} holds 2,100 captions, 2,100 of them of {crowded.listing.taught.video}: "
    )
    assert "take at least 35 times as long as those of 640: `clips.window` divides those of a long video" in said
    begun = work.snakemake("--until", "annotations").stdout
    assert begun.index(f"note: {said}") < begun.index("rule annotations:")
    work.config["clips"] = {"window": 2.0}
    assert too_many(dag(work)) == []
    work.config["clips"], work.config["objectives"] = {}, {"tcpl": {"angle": 0.0}}
    assert too_many(dag(work)) == []


def test_a_batch_of_too_many_videos(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = dag(work)
    taught, asked = usual.listing.taught, usual.queries["train"]
    assert 2 * taught.most < asked
    monkeypatch.setattr(captions, "MANY", asked)
    assert usual.config.training.batch_videos < taught.videos
    assert too_many(usual) == []
    work.config["training"]["batch_videos"] = taught.videos
    (said,) = too_many(dag(work))
    assert f"holds {asked} captions: " in said
    assert said.endswith("lower training.batch_videos")


def test_widths_of_an_imported_checkpoint(work: Workspace) -> None:
    work.prvr("export-checkpoint", "lent.ckpt", "--experiment", "main")
    checkpoint = work.results / "runs" / "no-motion" / "seed9527" / "checkpoint.h5"
    before = checkpoint.read_bytes()
    said = work.prvr("import-checkpoint", "lent.ckpt", "--experiment", "no-motion", "--force", check=False)
    assert said.returncode == 2
    assert "the checkpoint of no-motion was trained on other features" in said.stderr
    assert checkpoint.read_bytes() == before
    said = work.prvr("import-checkpoint", "lent.ckpt", "--experiment", "main", "--force")
    assert "clips are stored in float16, which can move a rank by one" in said.stdout
    assert check(dag(work)) == ["the checkpoint of main, seed 9527 was imported: it is not trained"]
    work.config["experiments"]["main"] = {"features": ["demo-clip-b16"]}
    with pytest.raises(ConfigError, match="the configured encoders give demo-clip-b16 64"):
        check(dag(work))
    shutil.rmtree(work.results / "features")  # its architecture says it too
    with pytest.raises(ConfigError, match="the configured encoders give demo-clip-b16 64"):
        check(dag(work))
    work.config["experiments"]["main"] = {"text": "demo-clip-l14"}
    with pytest.raises(ConfigError, match="text: it reads tokens of 96 values, demo-clip-l14 gives"):
        check(dag(work))
    for name in ("checkpoint.h5", "imported.json"):  # what the message says
        (work.results / "runs" / "main" / "seed9527" / name).unlink()
    assert check(dag(work)) == []


def test_two_folders_on_one_results(work: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (work.folder / "results").rename(tmp_path / "shared")
    work.config["results"] = str(tmp_path / "shared")
    claim(dag(work).layout)
    other = work.copy(tmp_path / "other")
    said = refused(other)
    assert "[LOCKED]" in said
    assert f"those of the workflow in {work.folder}" in said
    monkeypatch.chdir(other.folder)
    work.folder.rename(tmp_path / "moved")
    claim(dag(other).layout)  # the first is gone
    moved = Workspace(tmp_path / "moved", work.config)
    monkeypatch.chdir(moved.folder)
    with pytest.raises(LockedError, match=str(other.folder)):
        claim(dag(moved).layout)
    (tmp_path / "shared" / "mine" / "run-from.json").unlink()  # what the message says
    claim(dag(moved).layout)
    monkeypatch.chdir(other.folder)
    other.config["dataset"] = {**other.config["dataset"], "name": "another"}
    claim(dag(other).layout)


def test_a_disk_that_is_not_mounted(work: Workspace, tmp_path: Path) -> None:
    """Links to nowhere, or files that are not there although `allow_missing_videos` lets that pass: no feature goes."""
    videos, disk = work.folder / "data" / "videos", tmp_path / "disk"
    disk.mkdir()
    links = sorted(videos.rglob("*.mp4"))
    for file in links:
        shutil.move(file, disk / file.name)
        file.symlink_to(disk / file.name)
    dag(work).save_listing()  # as a start does
    before = {path: path.stat().st_mtime_ns for path in work.results.rglob("*")}
    disk.rename(tmp_path / "away")
    for _ in range(2):  # not only the first time
        assert f"{len(links)} of {len(links)} videos were here when the workflow last started" in refused(work)
    assert {path: path.stat().st_mtime_ns for path in work.results.rglob("*")} | {work.results: 0} == before | {work.results: 0}
    work.config["dataset"]["allow_missing_videos"] = True
    for link in links[2:]:
        link.unlink()
    with pytest.raises(DatasetError, match=f"{len(links)} of {len(links)} videos were here"):
        lost_videos(dag(work))
    (tmp_path / "away").rename(disk)
    links[1].unlink()
    links[1].symlink_to("nowhere")
    work.config["video"]["max_bad_fraction"] = 0.95
    lost_videos(dag(work))
    work.config["video"]["max_bad_fraction"] = 0.1
    with pytest.raises(DatasetError, match=f"{len(links) - 1} of {len(links)} videos were here"):
        lost_videos(dag(work))
    (work.results / "videos.json").unlink()  # what the message says: gone for good
    lost_videos(dag(work))


def test_a_folder_that_empties(work: Workspace) -> None:
    """Without annotations nothing says what should be there: a folder that holds nothing now was a disk, a file that goes was removed."""
    del work.config["dataset"]["annotations"]
    videos = work.folder / "data" / "videos"
    here, disk = sorted(videos.rglob("*.mp4")), videos / "test"
    on_disk = len(list(disk.iterdir()))
    dag(work).save_listing()
    for file in sorted((videos / "train").iterdir())[:3]:
        file.unlink()
    lost_videos(dag(work))
    disk.rename(work.folder / "away")
    with pytest.raises(DatasetError, match=f"{on_disk} of {len(here)} videos were here"):
        lost_videos(dag(work))
    disk.mkdir()
    with pytest.raises(DatasetError, match=f"{on_disk} of {len(here)} videos were here"):
        lost_videos(dag(work))
    disk.rmdir()
    (work.folder / "away").rename(disk)
    lost_videos(dag(work))


def test_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "a.mp4").touch()
    for name in ("lost+found", ".hidden", "closed"):
        (tmp_path / name).mkdir(mode=0)
    code = """
import os, sys
from pipeline.core.errors import DatasetError
from pipeline.datasets.folder import scan
os.chdir(sys.argv[1])
if not os.getuid():  # root may read everything
    os.setuid(65534)
try:
    print(scan("."))
except DatasetError as error:
    print(error)
"""
    tmp_path.chmod(0o755)

    def said() -> str:
        command = [sys.executable, "-c", code, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}).stdout

    assert "a folder of videos cannot be read: Permission denied\n  where: ./closed" in said()
    (tmp_path / "closed").rmdir()
    assert "open/a.mp4" in said()
