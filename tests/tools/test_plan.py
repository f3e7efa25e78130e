"""`prvr plan`: jobs and reasons read from a dry run, arithmetic of time and disk, what finished jobs teach."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.reading import load, read, validate
from pipeline.config.schema import Config, merge
from pipeline.config.streams import Stream
from pipeline.core.shards import ShardStore
from pipeline.datasets import stage
from pipeline.jobs import estimates
from pipeline.jobs.dag import Dag
from pipeline.tools import dryrun, plan
from tests.datasets.miniature import FPS, SIZE, build, encode

HEAD = "Building DAG of jobs...\nJob stats:\njob    count\n-----  -----\nall    1\n\n"
BLOCK = """[Sat Nov 21 03:13:13 2026]
rule {rule}:
    input: some/file
    output: other/file
    jobid: 7
    reason: {reason}
{wildcards}    resources: tmpdir=/tmp
"""
CHANGED = (
    "Params have changed since last execution: Union of exclusive params before and now across all output: "
    "before: {{'code': '60b4', 'recipe': '{0}', 'data': 'c625'}} now: {{'code': '60b4', 'recipe': '{1}', 'data': '{2}'}} "
)


def printed(*jobs: tuple[str, str, str]) -> str:
    blocks = [BLOCK.format(rule=rule, reason=why, wildcards=f"    wildcards: {of}\n" if of else "") for rule, of, why in jobs]
    return HEAD + "".join(blocks) + "Job stats:\ntotal 4\n\nReasons:\n    output files have to be generated:\n        features\n"


def test_jobs_and_reasons_are_read() -> None:
    text = printed(
        ("annotations", "", CHANGED.format("5e8e", "17fa", "c625")),
        ("features", "encoder=clip-l14, shard=003", "Missing output files: a; Input files updated by another job: b, c"),
        ("train", "experiment=main, seed=9527", CHANGED.format("5e8e", "5e8e", "0000")),
        ("text", "encoder=clip-l14", "Input files updated by another job: annotations.h5"),
    )
    found = dryrun.jobs(text)
    assert [(job.rule, job.why) for job in found] == [
        ("annotations", "its configuration changed"),
        ("features", "not made yet"),
        ("train", "videos or annotations changed"),
        ("text", "follows a stage that runs"),
    ]
    assert found[1].wildcards == {"encoder": "clip-l14", "shard": "003"}
    assert dryrun.jobs("Nothing to be done.") == []


def test_costs_of_the_published_encoders(root: Path) -> None:
    encoders = {
        name: config for kind in ("qvhighlights", "tvr") for name, config in load(root / "config" / f"{kind}.yaml").encoders.items()
    }
    assert [encoders[name].cost[1] for name in ("clip-b16", "clip-l14", "slowfast-r50")] == [512, 768, 2304]
    # published multiply-adds, times two: 17.6 G (B/16), 81 G (L/14), 65.7 G (SlowFast 8x8 R50 at 224)
    flops = [encoders[name].cost[0] / 1e9 for name in ("clip-b16", "clip-l14", "slowfast-r50")]
    assert flops == pytest.approx([35.2, 162.0, 131.4], rel=0.03)


def test_temporary_frames_are_counted_once_per_frame_looked_at() -> None:
    still, window = Stream(2.0, "middle", 224), Stream(2.0, "window", 224, 32, 30.0, 2)
    assert estimates.frame_bytes(still, 3600) == 1800 * 224 * 224 * 3
    assert estimates.frame_bytes(window, 3600) == pytest.approx(15 * 3600 * 224 * 224 * 3)


def test_headers_of_files_are_read_apart(tmp_path: Path) -> None:
    encode(tmp_path / "a.mp4", 2.0, 0)
    (tmp_path / "b.mp4").write_text("no video")
    found = estimates.look([str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4"), str(tmp_path / "none.mp4")])
    assert found == [(pytest.approx(2.0, abs=0.2), pytest.approx(FPS * SIZE * SIZE))]


@pytest.mark.parametrize(("seconds", "words"), [(40, "40 s"), (720, "12 min"), (12600, "3.5 h"), (181440, "2.1 days")])
def test_times_are_spelt(seconds: float, words: str) -> None:
    assert estimates.spell_time(seconds) == words


def _config(root: Path, tmp_path: Path) -> Config:
    mini = build("activitynet", tmp_path / "data")
    return validate(
        merge(read(root / "config" / "activitynet.yaml"), {"results": str(tmp_path / "results"), "dataset": mini.values}), source="test"
    )


def test_a_fresh_dataset_is_planned_in_full(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = _config(root, tmp_path)
    dag = Dag.of(config)
    jobs = [("annotations", "", "Missing output files: x")]
    jobs += [("frames", f"shard={shard}", "Missing output files: x") for shard in dag.shards]
    jobs += [("features", f"encoder=clip-l14, shard={shard}", "Missing output files: x") for shard in dag.shards]
    jobs += [("train", f"experiment={name}, seed=9527", "Missing output files: x") for name in config.experiments]
    monkeypatch.setattr(plan, "dry_run", lambda _: printed(*jobs))
    made = plan.plan(dag, "activitynet.yaml", threads=2)
    rows = {row.name: row for row in made.stages}
    assert (rows["frames"].todo, rows["features clip-l14"].todo, rows["train"].todo, rows["evaluate"].todo) == (10, 10, 2, 0)
    assert rows["features clip-l14"].bytes == pytest.approx(121 * 768 * 2)
    assert rows["evaluate"].why == "up to date"
    text = made.text()
    for part in ("gallery val_1", "train: 6 videos, 12 queries", "videos     10, 2 min (as annotated)", "not made yet", "ViT-L-14.pt"):
        assert part in text


def test_cached_videos_and_measured_speeds_count(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from pipeline.core.shards import key
    from pipeline.jobs import recipes

    config = _config(root, tmp_path)
    dag, layout = Dag.of(config), config.layout
    stage.run(config, layout)
    (shard,) = dag.shards
    recipe = recipes.features(config, "clip-l14")
    store = ShardStore(layout.features("clip-l14", shard), stage="features", recipe=recipe, group="features")
    kept = dag.shards[shard][:7]
    for source in kept:
        store.add(source.video_id, key(source.fingerprint, recipe), np.zeros((2, 768), np.float16))
    store.finish({source.video_id: key(source.fingerprint, recipe) for source in kept})
    bench = layout.root / "benchmarks" / "features" / "clip-l14" / f"{shard}.tsv"
    bench.parent.mkdir(parents=True)
    bench.write_text("s\tmax_rss\n20.0\t100\n")
    job = ("features", f"encoder=clip-l14, shard={shard}", CHANGED.format("a", "a", "b"))
    monkeypatch.setattr(plan, "dry_run", lambda _: printed(job))
    rows = {row.name: row for row in plan.plan(dag, "activitynet.yaml", threads=2).stages}
    row = rows["features clip-l14"]
    assert (row.todo, row.total, row.measured, row.why) == (3, 10, True, "videos or annotations changed")
    assert row.seconds == pytest.approx(3 * 20.0 / 10)
    assert rows["annotations"].todo == 0
