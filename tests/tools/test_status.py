"""`prvr status` and `prvr summary` on a folder of results in every state."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.config.reading import validate
from pipeline.jobs.dag import Dag
from pipeline.jobs.timings import stage_times
from pipeline.tools.status import status, traces
from pipeline.video.quarantine import COLUMNS, write

BENCHMARK = "s\th:m:s\tmax_rss\tcpu_time\n{}\t0:00:01\t{}\t{}\n"


@pytest.fixture
def dag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dag:
    """Twenty stand-in videos in four shards, one encoder, and nothing computed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    for i in range(20):
        (tmp_path / "videos" / f"v{i}.mp4").write_text(str(i))
    lines = [f"v{i},somebody waves {i},{'train' if i % 2 else 'test'}" for i in range(20)]
    (tmp_path / "queries.csv").write_text("\n".join(["video_id,query,split", *lines]) + "\n")
    config = {
        "dataset": {"name": "mine", "kind": "own", "videos": "videos", "annotations": "queries.csv"},
        "video": {"shard_size": 5},
        "encoders": {"clip": {"kind": "open_clip"}},
        "features": ["clip"],
        "text": "clip",
    }
    return Dag.of(validate(config, source="test"))


def test_done_running_failed_waiting_and_quarantined(dag: Dag) -> None:
    made = traces(dag)["features"]
    for job in made:
        job.result.parent.mkdir(parents=True, exist_ok=True)
        job.log.parent.mkdir(parents=True, exist_ok=True)
    made[0].result.write_text("{}")
    made[0].log.write_text("clip 000: 5/5 videos\n")
    made[1].log.write_text("clip 001: 1/5 videos\nprvr: [DEVICE] one row does not fit\n")
    entry = dict.fromkeys(COLUMNS, "x")
    write(dag.layout.quarantine, [{**entry, "id": "v1", "code": "EMPTY"}, {**entry, "id": "v2", "code": "EMPTY"}])
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stderr=made[2].log.open("w"))
    try:
        os.utime(made[2].log, (1, 1))  # silent for long, but its process is there
        text = status(dag)
    finally:
        child.kill()
        child.wait()
    assert "20 videos in 4 shards; 2 quarantined (EMPTY 2)" in text
    assert [line.split() for line in text.splitlines() if line.startswith("features")] == [["features", "1/4", "1", "1"]]
    assert f"failed: {made[1].log}" in text
    assert "[DEVICE] one row does not fit" in text
    assert str(made[2].log) not in text


def test_a_job_of_another_host_is_known_by_its_log(dag: Dag) -> None:
    job = traces(dag)["train"][0]
    job.log.parent.mkdir(parents=True)
    assert job.state(set()) == "waiting"
    job.log.write_text("epoch 3\n")
    assert job.state(set()) == "running"
    os.utime(job.log, (time.time() - 600,) * 2)
    assert job.state(set()) == "failed"


def test_benchmarks_are_summed_by_stage(dag: Dag) -> None:
    place = dag.layout.root / "benchmarks"
    for name, values in {"features/clip/000": (10, 300, 15), "features/clip/001": (20, 500, 25), "table/table": (1, 90, 1)}.items():
        path = place / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(BENCHMARK.format(*values))
    timings = {timing.stage: timing[1:] for timing in stage_times(dag.layout)}
    assert timings == {"features": (2, 30, 40, 500), "table": (1, 1, 1, 90)}
    assert "Where the time went" in status(dag)
