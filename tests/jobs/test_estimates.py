"""The one arithmetic of seconds and bytes: in parts against published numbers, as a whole against a finished run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from pipeline.config.reading import load
from pipeline.config.streams import Stream
from pipeline.jobs import estimates
from pipeline.jobs.dag import Dag
from pipeline.jobs.estimates import Costs, Machine
from pipeline.jobs.headers import look, sampled
from pipeline.jobs.lengths import Lengths
from pipeline.jobs.resources import disk
from pipeline.jobs.stages import STAGES
from tests.datasets.miniature import FPS, SIZE, encode
from tests.workflow.conftest import finished  # noqa: F401  (a fixture)
from tests.workflow.workspace import Workspace

FACTOR = 3.0  # what `prvr plan` says the arithmetic is good to


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
    assert still.frame_bytes(3600) == 1800 * 224 * 224 * 3
    assert window.frame_bytes(3600) == pytest.approx(15 * 3600 * 224 * 224 * 3)


def test_headers_of_files_are_read_apart(tmp_path: Path) -> None:
    encode(tmp_path / "a.mp4", 2.0, 0)
    (tmp_path / "b.mp4").write_text("no video")
    (tmp_path / "two\nlines.mp4").hardlink_to(tmp_path / "a.mp4")
    odd = os.fsdecode(bytes(tmp_path) + b"/caf\xe9.mp4")  # as an old archive's, no UTF-8
    shutil.copy(tmp_path / "a.mp4", odd)
    headers = look([odd, *(str(tmp_path / name) for name in ("a.mp4", "b.mp4", "none.mp4", "two\nlines.mp4"))])
    assert headers == [(pytest.approx(2.0, abs=0.2), pytest.approx(FPS * SIZE * SIZE))] * 3


@pytest.mark.parametrize(("seconds", "words"), [(40, "40 s"), (720, "12 min"), (12600, "3.5 h"), (181440, "2.1 days")])
def test_times_are_spelt(seconds: float, words: str) -> None:
    assert estimates.spell_time(seconds) == words


def on_disk(dag: Dag, stage: str, of: dict[str, str]) -> int:
    """Bytes a finished job left: its files, or all a run's files but its weights."""
    files, manifest = STAGES[stage].files(dag.layout, of), STAGES[stage].manifest(dag.layout, of)
    if stage == "evaluate":
        files = tuple(path for path in manifest.parent.iterdir() if path.name != "checkpoint.h5")
    return sum(path.stat().st_size for path in files or (manifest,))


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_finished_run_took_what_is_estimated(
    finished: Workspace,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seconds lie between a third of the processor's and three times the clock's, whatever else the machine does; bytes within three."""
    monkeypatch.chdir(finished.folder)
    dag = Dag.of(load("config.yaml"))
    guess, pixels, whence = sampled(dag.members({}))
    costs, lengths = Costs(dag, Machine(dag.config.runtime.threads, gpu=False), pixels), Lengths(dag, guess)
    assert whence == "as the files say"
    for stage in STAGES.values():
        jobs = stage.jobs(dag)
        needs = [stage.needs(costs, lengths.load(of), of) for of in jobs]
        took = [pd.read_csv(stage.benchmark(dag.layout, of), sep="\t").iloc[0] for of in jobs]
        seconds, size = sum(need.seconds for need in needs), sum(need.disk for need in needs)
        assert sum(row["cpu_time"] for row in took) / FACTOR <= seconds <= FACTOR * sum(row["s"] for row in took), stage.name
        assert all(row["max_rss"] < need.memory for row, need in zip(took, needs, strict=True)), stage.name
        left = sum(on_disk(dag, stage.name, of) for of in jobs)
        if left > 20_000 and not stage.temporary:
            assert left / FACTOR < size < FACTOR * left, stage.name
    rendered = sum(path.stat().st_size for path in (finished.folder / "data" / "videos").rglob("*.mp4"))
    assert rendered / FACTOR < STAGES["world"].needs(costs, lengths.load({}), {}).disk < FACTOR * rendered
    assert disk(costs, lengths, at_once=1) == 0.0  # nothing is left to do


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_frames_take_what_is_estimated(
    finished: Workspace,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = finished.copy(tmp_path / "work")
    work.config["video"]["keep_frames"] = True
    work.write()
    work.prvr("frames", "--shard", "000")
    monkeypatch.chdir(work.folder)
    dag = Dag.of(load("config.yaml"))
    left = sum(path.stat().st_size for path in (work.results / "frames").rglob("000.h5"))
    (need,) = [STAGES["frames"].needs(Costs(dag, Machine(1, gpu=False)), Lengths(dag).load(of), of) for of in [{"shard": "000"}]]
    assert left / FACTOR < need.disk < FACTOR * left
