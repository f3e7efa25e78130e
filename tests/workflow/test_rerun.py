"""For each change, exactly which jobs run: the table of docs/rerun.md, row by row, on the real workflow."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.workflow.workspace import Workspace

pytestmark = pytest.mark.slow

# The small world: 13 videos in 2 shards, 3 image or motion encoders, 1 text encoder, 2 experiments with their own clips, 1 seed.
E, S, X = 3, 2, 2
FROM_TRAIN = {"train": X, "evaluate": X, "table": 1}
FROM_CLIPS = {"clips": X * S, **FROM_TRAIN}


def queries(work: Workspace) -> Path:
    return work.folder / "data" / "queries.csv"


def edit_queries(work: Workspace, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    path = queries(work)
    change(pd.read_csv(path)).to_csv(path, index=False)


def some_video(work: Workspace) -> Path:
    return sorted((work.folder / "data" / "videos").rglob("*.mp4"))[0]


def nothing(work: Workspace) -> None:
    """Nothing is changed."""


def touched(work: Workspace) -> None:
    os.utime(some_video(work))
    os.utime(queries(work))


def training_value(work: Workspace) -> None:
    work.config["training"]["learning_rate"] = 2.0e-3


def evaluation_value(work: Workspace) -> None:
    work.config["evaluation"] = {**work.config.get("evaluation", {}), "split": "val"}


def tau(work: Workspace) -> None:
    work.config["clips"] = {**work.config.get("clips", {}), "tau": 0.55}


def batch_size(work: Workspace) -> None:
    work.config["runtime"] = {**work.config.get("runtime", {}), "batch_size": 7}


def max_bad_fraction(work: Workspace) -> None:
    work.config["video"]["max_bad_fraction"] = 0.5


def caption(work: Workspace) -> None:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[0, "query"] = "something else entirely happens"
        return table

    edit_queries(work, change)


def another_seed(work: Workspace) -> None:
    work.config["seeds"] = [*work.config["seeds"], 99]


def another_experiment(work: Workspace) -> None:
    name = next(iter(work.config["experiments"]))
    work.config["experiments"]["more"] = {**work.config["experiments"][name], "training": {"patience": 3}}


def video_replaced(work: Workspace) -> None:
    videos = sorted((work.folder / "data" / "videos").rglob("*.mp4"))
    shutil.copy(videos[1], videos[0])


def video_added(work: Workspace) -> None:
    source = some_video(work)
    target = source.with_name("added.mp4")
    shutil.copy(source, target)
    folder = work.folder / "data" / "videos"

    def change(table: pd.DataFrame) -> pd.DataFrame:
        row = table.iloc[[0]].copy()
        key = "video_id" if "video_id" in table else "path"
        row[key] = target.relative_to(folder).with_suffix("" if key == "video_id" else ".mp4").as_posix()
        row["query_id"] = "added"
        return pd.concat([table, row])

    edit_queries(work, change)


def fps(work: Workspace) -> None:
    for encoder in work.config["encoders"].values():
        encoder["sampling"] = {**encoder.get("sampling", {}), "every": 2.0}


def intermediate_deleted(work: Workspace) -> None:
    shutil.rmtree(work.results / "clips")


def features_store_deleted(work: Workspace) -> None:
    next(iter(sorted((work.results / "features").rglob("*.h5")))).unlink()


TABLE = [
    (nothing, {}),
    (touched, {}),
    (batch_size, {}),
    (intermediate_deleted, {}),
    (evaluation_value, {"evaluate": X, "table": 1}),
    (training_value, FROM_TRAIN),
    (tau, FROM_CLIPS),
    (max_bad_fraction, {"quarantine": 1}),
    (another_seed, {"train": X, "evaluate": X, "table": 1}),
    (another_experiment, {"train": 1, "evaluate": 1, "table": 1}),
    (caption, {"annotations": 1, "text": 1, **FROM_TRAIN}),
    (video_replaced, {"frames": 1, "features": E, "quarantine": 1, "clips": X, **FROM_TRAIN}),
    (video_added, {"annotations": 1, "frames": 1, "features": E, "quarantine": 1, "text": 1, "clips": X, **FROM_TRAIN}),
    (fps, {"frames": S, "features": E * S, "quarantine": 1, **FROM_CLIPS}),
    (features_store_deleted, {"frames": 1, "features": 1, "quarantine": 1, "clips": X, **FROM_TRAIN}),
]


@pytest.mark.parametrize(("change", "expected"), TABLE, ids=[change.__name__ for change, _ in TABLE])
def test_exactly_these_jobs_run(finished: Workspace, tmp_path: Path, change: Callable[[Workspace], None], expected: dict[str, int]) -> None:
    work = finished.copy(tmp_path / "work")
    change(work)
    work.write()
    assert dict(work.planned()) == expected
