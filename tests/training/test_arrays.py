"""Training on arrays: the same numbers as through files, arrays that do not fit, and a caller whose generators are left alone."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.clips.recipe import recipe_name
from pipeline.core.errors import TrainingError
from pipeline.core.store import open_store
from pipeline.models.checkpoint import load_model
from pipeline.ranking import data
from pipeline.training import arrays
from pipeline.training.arrays import Arrays
from tests.evaluation.conftest import World

SMALL: dict[str, Any] = {
    "model": {"hidden": 16, "heads": 2, "widths": [None, 0.5]},
    "training": {"epochs": 3, "batch_videos": 4, "learning_rate": 3e-3},
}


def collection(videos: int = 8, seed: int = 0) -> Arrays:
    numbers = np.random.default_rng(seed)
    meaning = numbers.normal(size=(videos, 6))
    rows = {f"v{i}": meaning[i] + 0.3 * numbers.normal(size=(int(numbers.integers(3, 300)), 6)) for i in range(videos)}
    queries = [(f"v{i}", meaning[i][:5] + 0.3 * numbers.normal(size=(int(numbers.integers(2, 9)), 5))) for i in range(videos) for _ in "ab"]
    return Arrays(rows, queries, seconds=2.0)


def test_a_split_of_arrays_is_the_split_of_the_same_files(tmp_path: Path) -> None:
    world = World(tmp_path)
    settings = world.config.experiment("main")
    stored = data.load(
        "test",
        training=True,
        annotations=world.layout.annotations,
        clips=world.layout.clips(recipe_name(settings), "*").parent,
        text=world.layout.text("clip"),
    )
    queries = [
        (stored.videos.ids[int(video)], world.words[name]) for name, video in zip(stored.queries.ids, stored.queries.video, strict=True)
    ]
    made = Arrays({video: world.rows[video] for video in stored.videos.ids}, queries, seconds=2.0).split(settings)
    for name in ("frames", "clips", "sizes", "frame_to_clip", "context"):
        assert torch.equal(getattr(made.videos, name), getattr(stored.videos, name)), name
        assert getattr(made.videos, name).dtype == getattr(stored.videos, name).dtype, name
    for name in ("words", "offsets", "video", "teacher"):
        assert torch.equal(getattr(made.queries, name), getattr(stored.queries, name)), name
    for name in ("start", "end", "duration"):
        assert np.array_equal(getattr(made.videos, name), getattr(stored.videos, name)), name


def test_the_same_seed_gives_the_same_weights_and_another_others() -> None:
    settings = arrays.experiment(**SMALL)
    once, again, other = (arrays.train(collection(), collection(5, 1), settings, seed=seed) for seed in (1, 1, 2))
    assert once.history == again.history
    states = [run.model.state_dict() for run in (once, again, other)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert any(not torch.equal(value, states[2][name]) for name, value in states[0].items())


def test_the_kept_epoch_is_the_best_and_survives_the_file(tmp_path: Path) -> None:
    selection = collection(5, 1)
    trained = arrays.train(collection(), selection, arrays.experiment(**SMALL), seed=1)
    assert trained.sumr == max(row["SumR"] for row in trained.history) == trained.recalls(selection)["SumR"]
    trained.save(tmp_path / "mine.h5")
    model, settings, about = load_model(tmp_path / "mine.h5")
    assert settings == trained.settings
    assert about["epoch"] == trained.epoch
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in trained.model.state_dict().items())
    with open_store(tmp_path / "mine.h5", stage="checkpoint") as store:
        assert len(store.table("history")) == len(trained.history)


def test_the_callers_generators_and_switches_are_left_alone() -> None:
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    expected = random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    torch.use_deterministic_algorithms(False)
    arrays.train(collection(), collection(5, 1), arrays.experiment(**SMALL), seed=1)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected  # noqa: NPY002
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory


def test_videos_that_no_query_asks_for_are_not_trained_on() -> None:
    training = collection()
    extra = Arrays({**training.videos, "unasked": np.ones((4, 6))}, training.queries, seconds=2.0)
    runs = [arrays.train(given, collection(5, 1), arrays.experiment(**SMALL), seed=1) for given in (training, extra)]
    assert runs[0].history == runs[1].history


def test_everything_that_does_not_fit_is_listed_at_once() -> None:
    rows, words = np.zeros((3, 6)), np.zeros((2, 5))
    wrong = Arrays(
        {"a": rows, "b": np.zeros((3, 7)), "c": np.zeros((0, 6)), "d": np.full((2, 6), np.nan), "e": np.zeros(6)},
        [("a", words), ("nobody", words), ("b", np.zeros((0, 5))), ("b", np.zeros((2, 4)))],
        teacher=np.zeros((3, 5)),
    )
    with pytest.raises(TrainingError) as raised:
        wrong.split(arrays.experiment())
    for part in (
        "'c' has the shape (0, 6)",
        "'d' holds values",
        "'e' has the shape",
        "query 1 is of video 'nobody'",
        "query 2 has the shape",
    ):
        assert part in str(raised.value)
    for part in ("rows of videos are of one width", "rows of queries are of one width", "3 sentence vectors for 4 queries"):
        assert part in str(raised.value)
    with pytest.raises(TrainingError, match="0 videos and 0 queries"):
        Arrays({}, []).split(arrays.experiment())


def test_what_a_teacher_of_frames_lacks_is_listed() -> None:
    rows, words = np.zeros((3, 6)), np.zeros((2, 5))
    given = Arrays({"a": rows, "b": rows}, [("a", words), ("b", words)], teacher_frames={"a": np.zeros((0, 4))})
    with pytest.raises(TrainingError) as raised:
        given.split(arrays.experiment())
    for part in ("no rows of video 'b'", "the teacher's rows of 'a': it has the shape (0, 4)", "teacher_frames need `teacher`"):
        assert part in str(raised.value)
    given = Arrays({"a": rows}, [("a", words)], teacher=np.zeros((1, 3)), teacher_frames={"a": np.zeros((2, 4))})
    with pytest.raises(TrainingError, match=r"of one width, given are \[3, 4\]"):
        given.split(arrays.experiment())


def test_a_model_that_reads_sentences_is_refused_without() -> None:
    settings = arrays.experiment(
        model={"kind": "amdnet", "hidden": 8}, objectives={"tcpl": {"distance": 0, "angle": 0}, "cbva": {"weight": 0}}
    )
    with pytest.raises(TrainingError, match="reads a sentence vector of each query"):
        arrays.train(collection(), collection(5, 1), settings)


def test_distillation_without_a_teacher_is_refused() -> None:
    off = {"nce": {"inheritance": 0.04}, "tcpl": {"distance": 0, "angle": 0}, "cbva": {"weight": 0}}
    settings = arrays.experiment(model={"kind": "dl_dkd", "hidden": 8}, objectives={**off, "distillation": {"weight": 0.1}})
    with pytest.raises(TrainingError, match=r"objectives.distillation needs data.teacher_frames"):
        arrays.train(collection(), collection(5, 1), settings)


def test_windows_need_moments_that_arrays_lack() -> None:
    with pytest.raises(TrainingError, match="arrays have none"):
        collection().split(arrays.experiment(clips={"window": 20.0}))
