"""The literal training step of the benchmark computes what ours does: the ratio it prints compares equal work."""

from __future__ import annotations

import argparse

import pytest
import torch

from benchmarks import literal_model
from benchmarks.training_step import stored, world
from pipeline.clips.context import contexts
from pipeline.config.method import Experiment
from pipeline.models.base import Dims, Videos, Words
from pipeline.models.msc import DualBranch
from pipeline.objectives.total import Total
from pipeline.training.batches import Batch, Batches
from pipeline.training.loop import loss_of
from pipeline.training.optimizer import BertAdam
from pipeline.training.trainee import Trainee


@pytest.fixture
def settings() -> Experiment:
    model = {"hidden": 16, "heads": 2, "widths": [None, 0.5, 0.1]}
    return Experiment.model_validate({"features": ["a"], "text": "a", "model": model, "objectives": {"triplet": {"hard_pool": 1}}})


def test_values_and_gradients(settings: Experiment) -> None:
    torch.manual_seed(0)
    videos, captions = world(argparse.Namespace(videos=5, dim=24, queries_per_video=3))
    model = DualBranch(settings.model, Dims(24, 24)).eval()
    torch.nn.init.normal_(model.query.pooling.linear.weight)
    terms = {"margin": 0.2, "hard": True, "pool": 1, "nce": (0.02, 0.04), "tau": 0.8}
    batch = literal_model.load(videos, captions, settings.model.max_words)
    theirs = literal_model.loss(model, batch, **terms)
    by_theirs = torch.autograd.grad(theirs, list(model.parameters()), allow_unused=True, materialize_grads=True)
    context = contexts(batch["clips"], batch["sizes"], [32, 20, 12, 8, 5], 0.8).assignment
    assert context.amax(1).unique().numel() > 1  # videos of several levels
    seen = Videos(*(batch[name] for name in ("frames", "clips", "sizes", "frame_to_clip")), context)
    same = Batch(seen, Words(batch["words"], batch["word_mask"]), batch["labels"], batch["teacher"], [])
    ours = loss_of(Trainee(model, Total(settings.objectives)), same, settings, epoch=settings.objectives.triplet.hard_start_epoch)[0]
    by_ours = torch.autograd.grad(ours, list(model.parameters()), allow_unused=True, materialize_grads=True)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    for (name, _), a, b in zip(model.named_parameters(), by_ours, by_theirs, strict=True):
        assert (a - b).norm() <= 1e-4 * b.norm() + 1e-6, name


def test_both_sides_load_the_same(settings: Experiment) -> None:
    videos, captions = world(argparse.Namespace(videos=5, dim=24, queries_per_video=3))
    theirs = literal_model.load(videos, captions, settings.model.max_words)
    ours = Batches(stored(videos, captions), settings.model.max_words, torch.device("cpu")).gather(torch.arange(5))
    held = {**ours.videos._asdict(), "words": ours.words.rows, "word_mask": ours.words.mask, "labels": ours.labels, "teacher": ours.teacher}
    for name, tensor in theirs.items():
        if name != "frame_mask":
            torch.testing.assert_close(held[name].to(tensor.dtype), tensor, rtol=0, atol=1e-3)  # the store keeps half precision


def test_optimisers(settings: Experiment) -> None:
    found = []
    for kind in (BertAdam, literal_model.LiteralAdam):
        torch.manual_seed(0)
        model = DualBranch(settings.model, Dims(6, 6, 8, 4))
        optimizer = kind(model.named_parameters(), model.decays, learning_rate=1e-2, total_steps=10, warmup=0.1)
        for _ in range(4):
            for parameter in model.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()
        found.append(list(model.state_dict().values()))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
