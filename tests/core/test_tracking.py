"""Trackers: what was reported is read back with the libraries' own readers, and no tracker can harm a run."""

from __future__ import annotations

import importlib.util
import json
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.core import tracking
from pipeline.core.errors import LibraryError

RUN = {"dataset": "mini", "experiment": "main", "seed": 3, "run": "0123456789ab"}
SETTINGS = {"training": {"learning_rate": 0.1}, "features": ["clip", "slow"], **{f"key{i}": i for i in range(150)}}


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar in a folder of event files, as TensorBoard itself reads them."""
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = event_accumulator.EventAccumulator(str(folder))
    read.Reload()
    return {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def test_a_tracker_may_even_exit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def exits(*_: Any) -> None:
        raise SystemExit(1)

    monkeypatch.setitem(tracking._BACKENDS, "wandb", exits)
    with tracking.started("wandb", tmp_path, RUN) as tracker:
        tracker.log(1, {"train/loss": 1.0})
    assert capsys.readouterr().err.count("warning: wandb failed") == 1


def test_a_missing_library_is_said_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a folder of its name in the working directory, as wandb leaves one, taken for it."""
    tracking.check("none")
    absent = next((name for name in ("wandb", "trackio", "mlflow") if importlib.util.find_spec(name) is None), None)
    if absent is None:
        pytest.skip("all of them are installed")
    (tmp_path / absent).mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(LibraryError, match=f"{absent} is not installed") as error:
        tracking.check(absent)
    assert f"pip install {absent}" in str(error.value)


def report(library: str, folder: Path) -> None:
    """A run killed after its second epoch, gone on with, and then evaluated by another process's tracker."""
    for first, steps in ((0, (1, 2)), (1, (2, 3))):
        with tracking.started(library, folder, RUN, SETTINGS, first) as tracker:
            for step in steps:
                tracker.log(step, {"train/loss": 1.0 / step, "validation/R@1": 10.0 * step})
            assert library == "none" or tracker._backend is not None
    with tracking.started(library, folder, RUN, first=None) as tracker:
        tracker.log(3, {"test/fused/SumR": 123.5})
        assert library == "none" or tracker._backend is not None


def test_none_writes_nothing(tmp_path: Path) -> None:
    report("none", tmp_path)
    assert not list(tmp_path.iterdir())


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    report("tensorboard", tmp_path)
    read = scalars(tmp_path / "tensorboard" / "main-seed3-0123456789ab")
    assert [step for step, _ in read["train/loss"]] == [1, 2, 3]
    assert read["test/fused/SumR"] == [(3, 123.5)]


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    report("mlflow", tmp_path)
    from mlflow.tracking import MlflowClient

    client = MlflowClient((tmp_path / "mlflow").as_uri())
    (stored,) = client.search_runs([client.get_experiment_by_name("mini").experiment_id])
    assert stored.data.metrics == {"train/loss": pytest.approx(1 / 3), "validation/R_at_1": 30.0, "test/fused/SumR": 123.5}
    assert sorted({metric.step for metric in client.get_metric_history(stored.info.run_id, "train/loss")}) == [1, 2, 3]
    assert (stored.data.params["training.learning_rate"], stored.data.tags["run"]) == ("0.1", "0123456789ab")
    assert len(stored.data.params) == 152
    assert stored.info.status == "FINISHED"


def records(file: bytes) -> Iterator[bytes]:
    """The records of a `.wandb` file: LevelDB's log format behind seven bytes of its own."""
    place, parts = 7, b""
    while place + 7 <= len(file):
        if (room := 32768 - place % 32768) < 7:
            place += room
            continue
        length, kind = struct.unpack_from("<HB", file, place + 4)
        parts += file[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline runs of one id; what stands in their files is read with wandb's own messages."""
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    report("wandb", tmp_path)
    from wandb.proto import wandb_internal_pb2

    rows, ids = [], set()
    for file in sorted((tmp_path / "wandb").rglob("*.wandb"), key=lambda file: file.stat().st_mtime_ns):
        for data in records(file.read_bytes()):
            record = wandb_internal_pb2.Record.FromString(data)
            if record.run.run_id:
                ids.add(record.run.run_id)
            if record.history.item:
                rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item})
    assert len(ids) == 1
    assert [row["epoch"] for row in rows] == [1, 2, 2, 3, 3]
    assert [row["train/loss"] for row in rows[:4]] == pytest.approx([1, 1 / 2, 1 / 2, 1 / 3])
    assert rows[-1]["test/fused/SumR"] == 123.5


def test_trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # another test may have had it imported for its own
    pytest.importorskip("trackio")
    report("trackio", tmp_path)
    (file,) = (tmp_path / "trackio").glob("mini*.db")
    with sqlite3.connect(file) as database:
        rows = database.execute("SELECT step, metrics FROM metrics ORDER BY step").fetchall()
    found = {step: json.loads(metrics) for step, metrics in rows}
    assert set(found) == {1, 2, 3}
