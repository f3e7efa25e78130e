"""The loop: it learns, it stops, and it says what went wrong."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from pipeline.config.method import Experiment
from pipeline.core.errors import TrainingError
from pipeline.models.base import Dims, build
from pipeline.objectives import triplet
from pipeline.objectives.total import Total
from pipeline.ranking.measure import measure as ranked
from pipeline.training import loop
from pipeline.training.advice import advice
from pipeline.training.batches import Batches, Sampler
from pipeline.training.checkpoint import State, seed_everything
from pipeline.training.optimizer import BertAdam
from pipeline.training.trainee import Trainee
from tests.ranking.test_data import CPU, load
from tests.training import miniature


class Run:
    """A loop on a miniature's training split, with everything it needs."""

    def __init__(self, folder: Path, **over) -> None:
        self.world = miniature.make(folder, train=6, val=4, **over)
        self.settings = self.world.config.experiment("main")
        seed_everything(0)
        self.split = load(self.world)
        self.model = build("msc", self.settings.model, Dims(miniature.DIM, miniature.TEXT))
        self.trainee = Trainee(self.model, Total(self.settings.objectives))
        self.sampler = Sampler(len(self.split.videos), self.settings.training.batch_videos, 0)
        steps = self.settings.training.epochs * len(self.sampler)
        options = self.settings.training
        self.optimizer = BertAdam(
            self.trainee.named_parameters(),
            self.trainee.decays,
            learning_rate=options.learning_rate,
            total_steps=steps,
            warmup=options.warmup,
        )
        self.said: list[str] = []

    def train(self, measure=None) -> State:
        return loop.train(
            self.trainee,
            self.optimizer,
            Batches(self.split, self.settings.model.max_words, CPU),
            self.sampler,
            self.settings,
            State(),
            measure=measure or (lambda: ranked(self.model, self.split, self.settings.evaluation, CPU)),
            save=lambda _: None,
            say=self.said.append,
        )


def test_it_learns_a_small_set_by_heart(tmp_path: Path) -> None:
    run = Run(tmp_path, training={"epochs": 30, "batch_videos": 6})
    state = run.train()
    assert state.history[-1]["loss"] < 0.6 * state.history[0]["loss"]
    assert state.best_sumr > 390  # of 400; a gallery of 6 gives 300 for R@10 and R@100 and chance elsewhere
    terms = {"nce_clip", "triplet_clip", "nce_frame", "triplet_frame", "tcpl_distance", "tcpl_angle", "cbva"}
    assert terms < set(state.history[0])
    for row in state.history:
        assert row["loss"] == pytest.approx(sum(row[name] for name in terms), rel=1e-5)


@pytest.mark.parametrize(("values", "ran", "best"), [([5, 4, 3, 2, 1], 4, 1), ([1, 2, 2, 2, 2, 9], 5, 2), ([1, 2, 1, 3, 1, 1], 6, 4)])
def test_it_stops_after_more_than_patience_epochs_without_a_better_one(tmp_path: Path, values: list, ran: int, best: int) -> None:
    run = Run(tmp_path, training={"epochs": len(values), "patience": 2})
    scores = iter(values)
    state = run.train(measure=lambda: {"SumR": float(next(scores))})
    assert (state.epoch, state.best_epoch) == (ran, best)
    assert len(state.history) == ran


def test_a_loss_that_is_not_finite_names_the_videos(tmp_path: Path) -> None:
    run = Run(tmp_path, training={"batch_videos": 2})
    run.split.videos.frames[3] = math.nan
    with pytest.raises(TrainingError) as error:
        run.train()
    assert "t3" in error.value.where
    assert "not finite at step" in str(error.value)
    assert len(error.value.where.split(",")) == 2


def test_late_checks_still_name_the_right_batch() -> None:
    watch = loop.Watch(every=3)
    good = {"nce": torch.tensor(1.0)}
    watch.add(1, ["a"], good, torch.tensor(1.0))
    watch.add(2, ["b"], good, torch.tensor(math.inf))
    with pytest.raises(TrainingError, match="gradient is not finite at step 2") as error:
        watch.add(3, ["c"], {"nce": torch.tensor(math.nan)}, torch.tensor(1.0))
    assert error.value.where == "batch of videos b"


def test_a_collapsed_model_is_noticed(tmp_path: Path) -> None:
    run = Run(tmp_path, training={"epochs": 7, "learning_rate": 1e-12})
    with torch.no_grad():
        run.model.query.pooling.linear.weight.zero_()
        run.model.query.layer.norm2.weight.zero_()
        run.model.query.layer.norm2.bias.fill_(1)
    for branch in (run.model.clip, run.model.frame):
        for layer in branch.block.layers:
            torch.nn.init.zeros_(layer.norm2.weight)
            torch.nn.init.ones_(layer.norm2.bias)
    state = run.train()
    assert len(state.notes) == 1
    assert "twice its margin" in state.notes[0]
    assert any("twice its margin" in line for line in run.said)


def test_hard_negatives_start_at_their_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path, training={"epochs": 4}, objectives={"triplet": {"hard_start_epoch": 2}})
    seen = []
    original = triplet.triplet
    monkeypatch.setattr(triplet, "triplet", lambda *a, **k: seen.append(k["hard"]) or original(*a, **k))
    run.train()
    assert seen == [False] * 4 + [True] * 4  # both branches


@pytest.mark.parametrize(
    "over", [{"training": {"precision": "bf16"}}, {"training": {"recompute": True}}, {"objectives": {"cbva": {"weight": 0}}}]
)
def test_options_train(tmp_path: Path, over: dict) -> None:
    run = Run(tmp_path, **over)
    run.model.recompute(run.settings.training.recompute)
    assert math.isfinite(run.train().history[-1]["loss"])


def test_one_video_with_one_query_trains(tmp_path: Path) -> None:
    world = miniature.make(tmp_path, train=1, val=2, events=1, shards=1)
    split, settings = load(world), world.config.experiment("main")
    batch = Batches(split, settings.model.max_words, CPU).gather(torch.tensor([0]))
    model = build("msc", settings.model, Dims(miniature.DIM, miniature.TEXT))
    loss, terms = loop.loss_of(Trainee(model, Total(settings.objectives)), batch, settings, epoch=0)
    loss.backward()
    assert math.isfinite(loss.item())
    assert terms["triplet_clip"] == terms["tcpl_distance"] == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_advice() -> None:
    base = {"features": ["a"], "text": "a"}
    plain = Experiment.model_validate(base)
    assert any("can collapse on 400 videos" in line for line in advice(plain, videos=400, queries=1200))
    assert advice(plain, videos=10_000, queries=50_000) == []
    assert any("one batch holds all 20 videos" in line for line in advice(plain, videos=20, queries=60))
    same = Experiment.model_validate(base | {"training": {"selection_split": "test"}})
    assert any("the split that is reported" in line for line in advice(same, videos=10_000, queries=50_000))
