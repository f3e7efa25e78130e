"""The list of videos a run saves for its jobs: divided as the collection is, and a job of a shard needs no other part of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.config.reading import validate
from pipeline.core.errors import DatasetError
from pipeline.core.provenance import FileCache
from pipeline.jobs import saved
from pipeline.jobs.dag import Dag
from pipeline.jobs.upkeep import move_to_shards

OF_A_SHARD = [("frames", {}), ("features", {"encoder": "clip"})]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """40 stand-in videos, some of names that JSON must escape, with a query each."""
    monkeypatch.chdir(tmp_path)
    lines = ["video_id,query,split"]
    for i in range(40):
        file = tmp_path / "videos" / f"vidéo \U0001f3ac {i}.mp4"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(f"content {i}".encode())
        lines.append(f"{file.stem},somebody does thing {i},{('train', 'val', 'test')[i % 3]}")
    Path("queries.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def dag(*, started: bool = False, shard_size: int = 6) -> Dag:
    config = {
        "dataset": {"name": "mine", "kind": "own", "videos": "videos", "annotations": "queries.csv"},
        "video": {"shard_size": shard_size},
        "encoders": {"clip": {"kind": "open_clip"}},
        "features": ["clip"],
        "text": "clip",
    }
    return Dag.of(validate(config, source="test"), started=started)


def begin() -> Dag:
    """What a run does before its first job."""
    whole = dag()
    whole.save_listing()
    move_to_shards(whole)
    return whole


def keep_only(shard: str) -> None:
    """Take away everything of the collection that is not of one shard."""
    mine = dag(started=True).videos(shard)
    path = dag().layout.listing
    lines = path.read_bytes().splitlines(keepends=True)
    own = [line for line in lines[1:] if mine and json.dumps(mine[0].video_id).encode() in line]
    assert len(own) == 1
    path.write_bytes(b"".join(line if line in (lines[0], own[0]) else b"#" * len(line) for line in lines))
    Path("queries.csv").unlink()
    dag().layout.fingerprints.unlink()
    kept = {Path(file) for source in mine for file in source.paths}
    for file in Path("videos").iterdir():
        if file not in kept:
            file.unlink()


def test_the_parts_are_the_whole(folder: Path) -> None:
    whole, job = begin(), dag(started=True)
    assert len(whole.shard_names) == 8
    assert list(whole.shards) == whole.shard_names == job.shard_names
    for shard in whole.shard_names:
        assert job.videos(shard) == whole.shards[shard] == job.sources(shard)
        for stage, of in OF_A_SHARD:
            assert job.trace(stage, **of, shard=shard) == whole.trace(stage, **of, shard=shard)
    assert dag(started=True).shards == whole.shards
    assert sorted(source.video_id for source in job.listing.videos) == sorted(source.video_id for source in whole.listing.videos)
    assert (job.queries, job.division) == (whole.queries, whole.division)
    assert {source for sources in whole.shards.values() for source in sources} == set(saved.videos(whole.layout.listing))
    assert json.loads(whole.layout.listing.read_text())["count"] == 40  # any other reader's JSON too


@pytest.mark.parametrize("at", [0, 3, -1])
def test_a_job_needs_its_own_part_alone(folder: Path, at: int) -> None:
    whole = begin()
    shard = [name for name in whole.shard_names if whole.shards[name]][at]
    expected = {stage: whole.trace(stage, **of, shard=shard) for stage, of in OF_A_SHARD}
    keep_only(shard)
    job = dag(started=True)
    job.check_division()
    assert job.sources(shard) == whole.shards[shard] == job.members({"shard": shard})
    assert {stage: job.trace(stage, **of, shard=shard) for stage, of in OF_A_SHARD} == expected
    assert job.wanted(shard) == {source.video_id for source in whole.shards[shard]}
    another = next(name for name in whole.shard_names if name != shard and whole.shards[name])
    with pytest.raises(ValueError, match="Expecting value"):
        job.videos(another)
    with pytest.raises(DatasetError):  # whoever must know all of them sees that they are gone
        _ = dag().shards


def test_a_file_that_changes_while_the_run_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is decoded as what it is now, under its new fingerprint; of the others not a byte is read, and one that goes stays in the list."""
    whole = begin()
    shard = next(name for name in whole.shard_names if len(whole.shards[name]) > 2)
    changed, lost, *others = whole.shards[shard]
    Path(changed.paths[0]).write_bytes(b"another content")
    Path(lost.paths[0]).unlink()
    read: list[str] = []
    get = FileCache.get
    monkeypatch.setattr(FileCache, "get", lambda self, path, *args: read.append(str(path)) or get(self, path, *args))
    job = dag(started=True)
    now = {source.video_id: source for source in job.sources(shard)}
    assert now[changed.video_id].fingerprint not in {changed.fingerprint, ""}
    assert [now[source.video_id] for source in (lost, *others)] == [lost, *others]
    assert read == [changed.paths[0]]
    assert job.content(shard) == whole.content(shard)  # what the job is about is what the run started with


def test_another_division_is_refused(folder: Path) -> None:
    begin()
    dag(started=True).check_division()
    with pytest.raises(DatasetError, match="divided otherwise"):
        dag(started=True, shard_size=3).check_division()
    dag(shard_size=3).save_listing()  # by another run, that has not moved the files yet
    with pytest.raises(DatasetError, match="divided otherwise"):
        dag(started=True).check_division()


def test_a_list_that_was_not_divided(folder: Path) -> None:
    """What earlier versions saved is still what was here when the workflow last started; a job does not take it for its part."""
    whole = dag()
    path = whole.layout.listing
    videos = [[source.video_id, source.paths, source.fingerprint, source.duration] for source in whole.listing.videos]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"queries": whole.queries, "videos": videos}))
    assert saved.videos(path) == whole.listing.videos
    assert dag(started=True).shards == whole.shards


def test_no_run_reads_no_list(folder: Path) -> None:
    """`prvr status`, `prvr plan` and a job started by hand look at the folder as it is."""
    begin()
    shutil.copy(next(Path("videos").iterdir()), Path("videos") / "more.mp4")
    with Path("queries.csv").open("a") as file:
        file.write("more,somebody does more,train\n")
    assert len(dag().listing.videos) == 41
    assert len(dag(started=True).listing.videos) == 40
