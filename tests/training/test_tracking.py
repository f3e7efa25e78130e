"""A tracked training is the training: the same bytes, whatever the tracker does; and what it was told is what happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.core import tracking
from pipeline.core.kept import hash_of
from pipeline.core.store import open_store
from pipeline.training import loop
from tests.core.test_tracking import scalars
from tests.training import miniature
from tests.training.test_stage import digest, run

EPOCHS = {"epochs": 3}


@pytest.fixture(scope="module")
def untracked(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The checkpoint of a run without a tracker."""
    return run(miniature.make(tmp_path_factory.mktemp("untracked"), training=EPOCHS))


def test_tensorboard_reads_the_training_and_nothing_of_the_result_changes(
    untracked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in its second epoch and gone on with: every epoch stands there once, and the checkpoint is that of an untracked run."""
    pytest.importorskip("tensorboard")
    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)
    world = miniature.make(tmp_path, training=EPOCHS, tracking="tensorboard")
    log, calls = tracking.Tracker.log, []

    def killed(self: tracking.Tracker, step: int, values: dict[str, float]) -> None:
        log(self, step, values)
        calls.append(step)
        if calls == [1, 2]:  # reported, and not saved yet
            raise KeyboardInterrupt

    monkeypatch.setattr(tracking.Tracker, "log", killed)
    with pytest.raises(KeyboardInterrupt):
        run(world)
    assert run(world) == untracked == digest(world)
    assert calls == [1, 2, 2, 3]
    (folder,) = (world.layout.tracking / "tensorboard").iterdir()
    assert folder.name == f"main-seed3-{hash_of(world.layout, 'main', 3)}"
    read = scalars(folder)
    assert [step for step, _ in read["train/loss"]] == [1, 2, 3]
    assert {"train/learning_rate", "train/gradient_norm", "train/triplet_clip", "validation/SumR", "validation/R@1"} <= set(read)
    with open_store(world.layout.checkpoint("main", 3)) as store:
        history = store.table("history")
    assert [value for _, value in read["validation/SumR"]] == pytest.approx(history["SumR"].tolist())
    assert [value for _, value in read["train/loss"]] == pytest.approx(history["loss"].tolist())


def test_a_tracker_that_fails_is_a_warning_once(
    untracked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:

    class Failing:
        def __init__(self, *_: Any) -> None:
            print("hello from the tracker")

        def log(self, step: int, values: dict[str, float]) -> None:
            if step == 2:
                raise ConnectionError("the server is gone\nand more")

        def close(self) -> None:
            raise AssertionError("closed after its failure")

    monkeypatch.setitem(tracking._BACKENDS, "wandb", Failing)
    assert run(miniature.make(tmp_path, training=EPOCHS, tracking="wandb")) == untracked
    said = capsys.readouterr()
    assert said.err.count("warning: wandb failed, this run is not tracked any further: ConnectionError: the server is gone\n") == 1
    assert "hello from the tracker" in said.err
    assert "hello" not in said.out  # which is the user's screen
