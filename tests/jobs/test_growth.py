"""A collection that grows a little plans a little, and its videos stay where they are stored; what its shards hold follows its videos."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.reading import load, validate
from pipeline.core.shards import USUAL, ShardStore, key
from pipeline.jobs import headers, resharding
from pipeline.jobs.dag import Dag
from pipeline.jobs.products import products
from pipeline.jobs.stages import STAGES
from pipeline.jobs.upkeep import move_to_shards
from tests.workflow.workspace import Workspace

VIDEOS, SIZE = 300, 10


def config(size: int | str = SIZE) -> dict:
    return {
        "dataset": {"name": "mine", "kind": "own", "videos": "videos", "annotations": "queries.csv"},
        "video": {"shard_size": size},
        "encoders": {"clip": {"kind": "open_clip"}},
        "features": ["clip"],
        "text": "clip",
    }


def stand_ins(*numbers: int) -> None:
    """Files that stand for videos, with a query each."""
    Path("videos").mkdir(exist_ok=True)
    lines = ["video_id,query,split"] if not Path("queries.csv").exists() else []
    for i in numbers:
        Path("videos", f"video{i:04d}.mp4").write_bytes(f"content {i}".encode())
        lines.append(f"video{i:04d},somebody does thing {i},{('train', 'val', 'test')[i % 3]}")
    with Path("queries.csv").open("a") as file:
        file.write("\n".join(lines) + "\n")


def dag(size: int | str = SIZE, *, started: bool = False) -> Dag:
    return Dag.of(validate(config(size), source="test"), started=started)


def begin(of: Dag) -> Dag:
    """What a run does before its first job."""
    of.save_listing()
    move_to_shards(of)
    return of


def traces(of: Dag) -> dict[tuple, str]:
    jobs = [(stage.name, wildcards) for stage in STAGES.values() for wildcards in stage.jobs(of)]
    return {(stage, *wildcards.values()): of.trace(stage, **wildcards) for stage, wildcards in jobs}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    stand_ins(*range(VIDEOS))
    return tmp_path


@pytest.mark.slow
def test_one_more_in_a_hundred_plans_one_shard_in_thirty(folder: Path) -> None:
    """Stand-in results of every job, then three videos more, and a dry run."""
    work = Workspace(folder, {**config(), "results": "results"})
    whole = begin(Dag.of(load("config.yaml")))
    for made in products(whole):
        for file in made.files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("{}")
        made.manifest.parent.mkdir(parents=True, exist_ok=True)
        made.manifest.write_text('{"videos": {}}')
        made.finish(whole)
    whole.layout.table().write_text("stands for a table")
    stand_ins(*range(VIDEOS, VIDEOS + VIDEOS // 100))
    planned = work.planned()
    once = ("annotations", "text", "quarantine", "train", "evaluate", "table", "report")
    assert len(whole.shard_names) == 32
    assert planned == Counter({**dict.fromkeys(once, 1), **dict.fromkeys(("frames", "features", "clips"), 1)})


def test_shards_of_a_former_version_stay(folder: Path) -> None:
    """Its list says neither the videos a shard nor how many shards a new division had; nothing is made again for it."""
    for size in (SIZE, "auto"):
        new = dag()
        former = {"shards": len(new.shard_names), "by": "content"}
        begin(new)
        head, rest = new.layout.listing.read_text().split("\n", 1)
        new.layout.listing.write_text(head.replace(json.dumps(new.division), json.dumps(former)) + "\n" + rest)
        new.layout.shards.write_text(json.dumps(former))
        assert new.shards == dag(size).shards
        assert traces(new) == traces(dag(size))
        assert dag(size).settled
        dag(size, started=True).check_division()
        new.layout.listing.unlink()


def test_further_shards_are_those_of_the_jobs(folder: Path) -> None:
    before = begin(dag())
    former = traces(before)
    stand_ins(*range(VIDEOS, VIDEOS + 40))
    grown = dag()
    assert grown.settled  # nothing is to be moved
    begin(grown)
    added = set(grown.shard_names) - set(before.shard_names)
    assert len(added) in (3, 4)
    assert {
        (job[0], job[-1]) for job, trace in traces(grown).items() if former.get(job) != trace and job[-1].isdigit() and job[0] != "train"
    }
    job = dag(started=True)
    job.check_division()
    assert job.shard_names == grown.shard_names
    assert {shard: job.videos(shard) for shard in job.shard_names} == grown.shards == job.shards
    assert resharding.recorded(grown.layout.shards) == grown.division == job.division
    assert traces(dag()) == traces(grown)


def test_another_size_divides_anew_and_a_lost_list_too(folder: Path) -> None:
    begin(dag())
    stand_ins(*range(VIDEOS, VIDEOS + 40))
    grown = begin(dag())
    assert grown.division["hashed"] == 32 < grown.division["shards"]
    assert dag(5).division == {"shards": 128, "hashed": 128, "by": "content", "size": 5}
    assert not dag(5).settled
    grown.layout.listing.unlink()
    assert dag().division == {"shards": 64, "hashed": 64, "by": "content", "size": SIZE}
    assert not dag().settled


def encode(of: Dag) -> set[str]:
    """What the features jobs do with every shard, after a run began; returns the videos that were encoded."""
    recipe, encoded = of.features_recipe("clip"), set()
    for shard in of.shard_names:
        keys = {source.video_id: key(source.fingerprint, recipe) for source in of.videos(shard)}
        store = ShardStore(of.layout.features("clip", shard), stage="features", recipe=recipe, group="features")
        assert set(store.missing(keys)) == of.missing("clip", shard)
        for video in store.missing(keys):
            encoded.add(video)
            store.add(video, keys[video], np.zeros((2, 4), np.float16))
        store.finish(keys)
    return encoded


@pytest.mark.slow
def test_no_division_encodes_a_video_twice(folder: Path) -> None:
    """Grown, its list lost, another size: only what is new is encoded."""
    assert len(encode(begin(dag(40)))) == VIDEOS
    stand_ins(*range(VIDEOS, VIDEOS + 60))
    grown = begin(dag(40))
    assert (grown.division["hashed"], len(grown.shard_names)) == (8, 10)
    assert encode(grown) == {f"video{i:04d}" for i in range(VIDEOS, VIDEOS + 60)}
    grown.layout.listing.unlink()
    for size, shards in ((40, 16), (100, 4)):
        changed = dag(size)
        assert not changed.settled
        assert set().union(*(changed.missing("clip", shard) for shard in changed.shard_names)) == set()
        assert encode(begin(changed)) == set()
        assert len(changed.shard_names) == shards
        stores = sorted(path.stem for path in changed.layout.features("clip", "*").parent.glob("*.h5"))
        assert stores == changed.shard_names


def test_the_videos_of_a_shard_are_chosen_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the lengths that headers say, where nobody else does; a later look, or more videos, divide nothing anew."""
    asked: list[int] = []

    def look(paths: list[str]) -> list[tuple[float, float]]:
        asked.append(len(paths))
        return [(3600.0, 1e7)] * len(paths)

    monkeypatch.setattr(headers, "look", look)
    long = begin(dag("auto"))
    assert long.division["size"] == 50  # an hour's stills take 271 MB
    assert len(asked) == 1
    stand_ins(*range(VIDEOS, VIDEOS + 3))
    assert dag("auto").division["size"] == dag("auto", started=True).division["size"] == 50
    assert len(asked) == 1
    long.layout.listing.unlink()
    monkeypatch.setattr(headers, "look", lambda paths: [(10.0, 1e7)] * len(paths))
    assert dag("auto").division["size"] == USUAL
