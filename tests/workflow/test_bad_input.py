"""Bad input through the real workflow: a clear error before any job, or a quarantine row; nothing lost, nothing silent."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest

from pipeline.core.store import open_store
from tests.workflow.workspace import Workspace

pytestmark = pytest.mark.slow


def queries(work: Workspace) -> Path:
    return work.folder / "data" / "queries.csv"


def audio_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


def test_unusable_videos_are_quarantined_and_the_run_goes_on(finished: Workspace, tmp_path: Path) -> None:
    work = finished.copy(tmp_path / "work")
    videos = work.folder / "data" / "videos"
    (videos / "empty.mp4").touch()
    (videos / "text.mp4").write_text("this is not a video\n" * 100)
    audio_only(videos / "audio.mp4")
    table = pd.read_csv(queries(work))
    bad = [table.iloc[[0]].assign(path=f"{name}.mp4", query_id=f"q-{name}", split="test") for name in ("empty", "text", "audio")]
    pd.concat([table, *bad]).to_csv(queries(work), index=False)
    failed = work.snakemake(check=False)
    assert failed.returncode != 0
    assert "QUARANTINE" in failed.stdout
    work.config["video"]["max_bad_fraction"] = 0.5
    work.write()
    work.snakemake()
    rows = pd.read_csv(work.results / "quarantine.tsv", sep="\t").set_index("id")
    assert dict(rows["code"]) == {"empty": "EMPTY", "text": "NOT_VIDEO", "audio": "NO_VIDEO_STREAM"}
    metrics = [json.loads(path.read_text()) for path in sorted((work.results / "runs").rglob("metrics.json"))]
    assert metrics
    for metric in metrics:
        assert set(metric["excluded"]["videos"]) == {"empty", "text", "audio"}
        assert set(metric["excluded"]["queries"]) == {"q-empty", "q-text", "q-audio"}


def test_every_wrong_row_is_listed_before_any_job(finished: Workspace, tmp_path: Path) -> None:
    work = finished.copy(tmp_path / "work")
    table = pd.read_csv(queries(work), dtype=object)
    table.loc[1, "query"] = " "
    table.loc[3, "query_id"] = table.loc[2, "query_id"]
    table.loc[4, "path"] = "nowhere.mp4"
    table.to_csv(queries(work), index=False)
    done = work.snakemake(check=False)
    assert done.returncode != 0
    assert "DATASET" in done.stdout
    assert "nowhere" in done.stdout
    assert str(table.loc[2, "query_id"]) in done.stdout
    assert "rule " not in done.stdout


def test_unknown_key_is_named_before_any_job(finished: Workspace, tmp_path: Path) -> None:
    work = finished.copy(tmp_path / "work")
    work.config["trainning"] = work.config.pop("training")
    work.write()
    done = work.snakemake(check=False)
    assert done.returncode != 0
    assert "did you mean `training`?" in done.stdout
    assert "config.yaml" in done.stdout


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("nobody 0 test/0000 1\n", "query nobody: no query of the dataset"),
        ("{query} 0 test/nowhere 1\n", "no video test/nowhere"),
        (None, "relevance file cannot be read"),
    ],
)
def test_a_relevance_file_that_cannot_be_meant_stops_before_any_job(
    finished: Workspace, tmp_path: Path, labels: str | None, said: str
) -> None:
    work = finished.copy(tmp_path / "work")
    if labels:
        query = pd.read_csv(work.folder / "data" / "queries.csv")["query_id"][0]
        (work.folder / "labels.qrels").write_text(labels.format(query=query))
    work.config["evaluation"] = {**work.config["evaluation"], "relevance": "labels.qrels"}
    work.write()
    done = work.snakemake(check=False)
    assert done.returncode != 0
    assert said in done.stdout
    assert "Traceback" not in done.stdout
    assert "rule " not in done.stdout


def test_missing_weights_name_the_file_and_never_become_a_random_model(finished: Workspace, tmp_path: Path) -> None:
    work = finished.copy(tmp_path / "work")
    work.config["encoders"]["clip-b16"] = {"kind": "open_clip", "architecture": "ViT-B-16-quickgelu", "weights": "openai"}
    first = work.config["features"][0]
    work.config["features"] = ["clip-b16"]
    work.config["experiments"] = {"big": {"text": first}}
    work.write()
    done = work.snakemake(check=False)
    assert done.returncode != 0
    assert "ViT-B-16.pt" in done.stdout
    assert "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f" in done.stdout
    assert not (work.results / "features" / "clip-b16").exists()
    assert "rule frames" not in done.stdout


def test_a_truncated_cache_is_noticed_and_made_again(finished: Workspace, tmp_path: Path) -> None:
    work = finished.copy(tmp_path / "work")
    store = sorted((work.results / "features").rglob("*.h5"))[0]
    store.write_bytes(store.read_bytes()[: store.stat().st_size // 2])
    work.config["clips"] = {**work.config.get("clips", {}), "tau": 0.51}
    work.write()
    work.snakemake("clips_of_all")
    with open_store(store, stage="features") as again:
        assert again.ragged("features").values.shape[1] > 0


def test_two_runs_in_one_folder_are_refused(finished: Workspace, tmp_path: Path) -> None:
    work = finished.copy(tmp_path / "work")
    work.config["training"]["epochs"] = 500
    work.config["training"]["patience"] = 500
    work.write()
    first = subprocess.Popen(work.command(), cwd=work.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        locks = work.folder / ".snakemake" / "locks"
        deadline = time.monotonic() + 60
        while not list(locks.glob("*")) and time.monotonic() < deadline:
            time.sleep(0.1)
        second = work.snakemake(check=False)
        assert second.returncode != 0
        assert "locked" in second.stdout.lower()
    finally:
        first.terminate()
        first.wait(timeout=60)


def test_a_teacher_of_frames_that_reads_no_sentences(finished: Workspace, tmp_path: Path) -> None:
    """DL-DKD taught by SlowFast, which has no text tower: said before any job to whoever compares it, and to nobody else."""
    work = finished.copy(tmp_path / "work")
    work.config["compare"] = {"methods": {"taught": {"preset": "dl_dkd", "teacher": "demo-slowfast"}}}
    work.write()
    assert "compare" not in work.planned(), "whoever does not compare is not stopped"
    done = work.snakemake("compare", check=False)
    assert done.returncode != 0
    assert "teacher of experiment 'taught' is 'demo-slowfast', which has no text tower" in done.stdout
    assert "rule " not in done.stdout
    assert "Traceback" not in done.stdout
