"""The stage as the workflow runs it: reproducible, resumable after any kill, honest about what it left out."""

from __future__ import annotations

import functools
import hashlib
import multiprocessing
import random
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from pipeline.core.errors import StoreSchema, TrainingError
from pipeline.core.store import create, open_store
from pipeline.evaluation import inputs
from pipeline.models.checkpoint import load_model
from pipeline.training import loop, splits, stage
from tests.training import miniature


@pytest.fixture(autouse=True)
def _saved_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)


def digest(world: miniature.World, seed: int = 3) -> str:
    return hashlib.sha256(world.layout.checkpoint("main", seed).read_bytes()).hexdigest()


def history_of(world: miniature.World) -> pd.DataFrame:
    with open_store(world.layout.checkpoint("main", 3), stage="checkpoint") as store:
        return store.table("history")


def recipe(world: miniature.World, seed: int) -> dict[str, Any]:
    """A miniature's encoder has no weights file to take the workflow's recipe of."""
    return {"experiment": world.config.experiment("main").model_dump(), "seed": seed}


def run(world: miniature.World, seed: int = 3) -> str:
    stage.run(world.config, world.layout, "main", seed, recipe(world, seed))
    return digest(world, seed)


def test_same_seed_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    world = miniature.make(tmp_path)
    first = run(world)
    assert run(world) == first
    assert run(world, seed=4) != first
    said = capsys.readouterr().err
    assert "SumR on 'val' (24 queries)" in said
    assert "device cpu" in said
    assert not world.layout.resume("main", 3).exists()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_threads_of_the_job_change_nothing(tmp_path: Path, threads: int) -> None:
    """Neither `runtime.threads` nor what the process was told: the experiment alone says how many threads add up."""
    digests = set()
    for given in (1, 3):
        torch.set_num_threads(given)
        digests.add(run(miniature.make(tmp_path / str(given), runtime={"threads": given}, training={"threads": threads})))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(1)
    assert len(digests) == 1


def test_the_checkpoint_tells_its_story(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    world = miniature.make(tmp_path, missing=2)
    run(world)
    model, experiment, attrs = load_model(world.layout.checkpoint("main", 3))
    assert experiment == world.config.experiment("main")
    assert attrs["dropped"] == {"train": {"queries": 6, "videos": 2}}
    assert (attrs["selection_split"], attrs["seed"], attrs["epochs_run"], attrs["threads"] >= 1) == ("val", 3, 4, True)
    history = history_of(world)
    assert (world.layout.run("main", 3) / "training.png").read_bytes()[:4] == b"\x89PNG"
    assert history["epoch"].tolist() == [1, 2, 3, 4]
    assert history["SumR"].max() == attrs["SumR"] == history["SumR"][attrs["epoch"] - 1]
    assert "6 queries of 2 videos" in capsys.readouterr().err
    assert model.dims.video_dim == miniature.DIM


def test_resumed_runs_end_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    world = miniature.make(tmp_path)
    whole = run(world)
    world.layout.checkpoint("main", 3).unlink()
    epoch, interrupted = loop._epoch, []

    def stops_in_the_third(*args, **kwargs):
        if len(interrupted) == 2:
            interrupted.append(None)
            raise KeyboardInterrupt
        interrupted.append(None)
        return epoch(*args, **kwargs)

    monkeypatch.setattr(loop, "_epoch", stops_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        run(world)
    assert not world.layout.checkpoint("main", 3).exists()
    assert run(world) == whole
    assert "going on after epoch 2" in capsys.readouterr().err


def test_a_state_of_another_recipe_is_not_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    world = miniature.make(tmp_path)
    whole = run(world)
    other = miniature.World(miniature.config(tmp_path, training={"learning_rate": 1e-3}), world.layout)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage, "measure", lambda *_: {"SumR": 1.0})
        patch.setattr(loop, "stuck", stop)
        with pytest.raises(KeyboardInterrupt):
            run(other)
    stage.run(other.config, other.layout, "main", 3, recipe(other, 3))
    world.layout.resume("main", 3).write_bytes(b"not hdf5")
    assert run(world) == whole
    assert "going on" not in capsys.readouterr().err


def test_no_selection_split(tmp_path: Path) -> None:
    world = miniature.make(tmp_path, training={"selection_split": "test"})
    with pytest.raises(TrainingError, match=r"split 'test' has no query.*train \(42\), val \(24\)"):
        run(world)


def test_data_that_does_not_fit_is_read_from_disk(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    whole = run(miniature.make(tmp_path / "resident"))
    assert "do not fit" not in capsys.readouterr().err
    world = miniature.make(tmp_path / "mapped", runtime={"memory": 0})
    assert run(world) == whole
    said = capsys.readouterr().err
    assert "the clips of 'train' (0.0 GB) do not fit" in said
    assert "the clips of 'val' (0.0 GB) do not fit" in said
    assert {path.name for path in world.layout.run("main", 3).iterdir()} == {"checkpoint.h5", "training.png"}


def _killed_and_resumed(world: miniature.World, times: random.Random, seconds: float) -> int:
    """Run in a child process, killed (SIGKILL) after a random share of `seconds`, until one ends by itself; returns the number of kills."""
    fork = multiprocessing.get_context("fork")  # the child has torch imported already: the time to a kill is spent training
    kills = 0
    while True:
        child = fork.Process(target=run, args=(world,))
        child.start()
        child.join(times.uniform(0.03, 0.6) * seconds if kills < 4 else None)
        if child.exitcode is not None:
            assert child.exitcode == 0
            return kills
        child.kill()
        child.join()
        kills += 1


@pytest.mark.parametrize("attempt", [0, 1, 2, *(pytest.param(i, marks=pytest.mark.slow) for i in range(3, 10))])
def test_killed_at_random_points_it_ends_with_the_same_bytes(tmp_path: Path, attempt: int) -> None:
    torch.set_num_threads(1)  # other threads do not survive a fork
    world = miniature.make(tmp_path, training={"epochs": 12, "patience": 20})
    started = time.perf_counter()
    whole = run(world)
    seconds = time.perf_counter() - started  # of an undisturbed run on this machine
    moments, kills = random.Random(attempt), 0
    for _ in range(20):  # a run faster than the first one may end before its kill
        world.layout.checkpoint("main", 3).unlink()
        kills += _killed_and_resumed(world, moments, seconds)
        assert digest(world) == whole
        if kills:
            break
    assert kills > 0


@pytest.mark.slow
@pytest.mark.long
def test_compiled_it_learns_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Capturing the graphs of both passes is ours to keep possible; turning them into C++ is torch's, and takes two minutes.
    monkeypatch.setattr(torch.nn.Module, "compile", functools.partialmethod(torch.nn.Module.compile, backend="aot_eager"))
    graphs = torch._dynamo.utils.counters["stats"]
    graphs.clear()
    still = {"model": {"dropout": 0.0, "input_dropout": 0.0}}  # drawn in another order when compiled
    losses = []
    for compiled in (False, True):
        world = miniature.make(tmp_path / str(compiled), training={"epochs": 2, "compile": compiled}, **still)
        run(world)
        losses.append(history_of(world)["loss"].to_numpy())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert graphs["unique_graphs"] > 0


def test_text_of_other_settings_is_refused_by_what_it_says(tmp_path: Path) -> None:
    """Two stores of one encoder, made with other weights, swapped on disk: their names, sizes and queries are alike."""
    world, other = miniature.make(tmp_path / "a"), miniature.make(tmp_path / "b")
    stated = {"clip": {"encoder": {"architecture": "ViT-L-14"}, "weights": "one"}}
    files = [made.layout.text("clip") for made in (world, other)]
    for file, weights in zip(files, ("one", "two"), strict=True):
        with open_store(file) as store:
            tokens, attrs = store.ragged("tokens"), {"encoder": "clip", "architecture": "mini"}
        with create(file, stage="text", recipe={**stated["clip"], "weights": weights, "code": "any"}, **attrs) as writer:
            writer.ragged("tokens", tokens)
    assert files[0].stat().st_size == files[1].stat().st_size
    splits.train_split(world.config.experiment("main"), world.layout, texts=stated)
    held = files[0].read_bytes()
    files[0].write_bytes(files[1].read_bytes())
    files[1].write_bytes(held)
    with pytest.raises(StoreSchema, match="another recipe than expected: weights"):
        stage.run(world.config, world.layout, "main", 3, recipe(world, 3), stated)
    with pytest.raises(StoreSchema, match="another recipe than expected: weights") as error:
        inputs.load(world.layout, world.config.experiment("main"), "val", stated)
    assert str(files[0]) in str(error.value)
    assert not world.layout.checkpoint("main", 3).exists()


def test_text_of_another_encoder_is_refused_by_what_it_says(tmp_path: Path) -> None:
    world = miniature.make(tmp_path)
    with open_store(world.layout.text("clip")) as store:
        tokens = store.ragged("tokens")
    with create(world.layout.text("clip"), stage="text", encoder="other") as writer:
        writer.ragged("tokens", tokens)
    with pytest.raises(StoreSchema, match="its encoder is 'other', expected was 'clip'"):
        run(world)
