"""The batches that break released code: every kind of model trains two steps on each and ranks, with finite numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config.method import Experiment
from pipeline.ranking.measure import rank
from pipeline.training import loop
from pipeline.training.arrays import Arrays, experiment
from pipeline.training.batches import Batches
from pipeline.training.stage import prepare

SIZES = {"hidden": 8, "heads": 2, "max_words": 6}
OFF = {"tcpl": {"distance": 0, "angle": 0}, "cbva": {"weight": 0}}
V2 = {"query_diversity": {"weight": 0.003, "form": "pair"}, "optimal_matching": {"weight": 0.1}}
WIDTHS = {"widths": [None, 0.5]}
CAPPED = {"frame_rows": "capped", "method": "rows"}
DKD = {**OFF, "nce": {"clip": 0, "frame": 0}, "distillation": {"weight": 0.1}}
BOTH = {"inheritance": 0.04, "exploration": 0.04}
AMD = {**OFF, "nce": {"clip": 0.04, "frame": 0}, "triplet": {"weight": 0}, "spans": {"diversity": 1, "relevance": 25}}
# name -> model, objectives, clips
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "msc": ({"kind": "msc", **SIZES, **WIDTHS}, {}, {}),
    "ms_sl": ({"kind": "ms_sl", **SIZES}, OFF, CAPPED),
    "gmmformer": ({"kind": "gmmformer", **SIZES, **WIDTHS}, {**OFF, "query_diversity": {"weight": 0.01}}, CAPPED),
    "gmmformer to the longest": (
        {"kind": "gmmformer", "padding": "longest", **SIZES, **WIDTHS},
        {**OFF, "query_diversity": {"weight": 0.01}},
        CAPPED,
    ),
    "gmmformer_v2": ({"kind": "gmmformer_v2", **SIZES, **WIDTHS}, {**OFF, **V2}, CAPPED),
    "hlformer": (
        {"kind": "hlformer", **SIZES, "widths": [None, 2.0], "lorentz_width": 8},
        {**OFF, **V2, "optimal_matching": {"weight": 0}, "entailment": {"weight": 0.001}},
        CAPPED,
    ),
    "bgm_net": ({"kind": "bgm_net", **SIZES}, {**OFF, "relations": {"weight": 1.0}}, CAPPED),
    "bgm_net of 3 clips": ({"kind": "bgm_net", **SIZES}, {**OFF, "relations": {"weight": 1.0}}, {**CAPPED, "clips": 3}),
    "dl_dkd": ({"kind": "dl_dkd", "plus_plus": False, **SIZES}, {**DKD, "nce": {"clip": 0, "frame": 0, **BOTH}}, CAPPED),
    "dl_dkd plus plus": ({"kind": "dl_dkd", **SIZES}, {**DKD, "soft_nce": BOTH}, CAPPED),
    "dl_dkd plus plus, fixed frames": ({"kind": "dl_dkd", **SIZES}, {**DKD, "soft_nce": BOTH}, {}),
    "amdnet": ({"kind": "amdnet", **SIZES}, AMD, CAPPED),
    "amdnet, one clip": ({"kind": "amdnet", **SIZES}, AMD, {**CAPPED, "clips": 1}),
    "ral on gmmformer_v2": ({"kind": "ral", "base": {"kind": "gmmformer_v2", **SIZES, **WIDTHS}}, {**OFF, **V2}, CAPPED),
    "ral on gmmformer": ({"kind": "ral", "base": {"kind": "gmmformer", **SIZES, **WIDTHS}}, OFF, CAPPED),
    "ral on ms_sl": ({"kind": "ral", "base": {"kind": "ms_sl", **SIZES}}, OFF, CAPPED),
    "ral on msc": ({"kind": "ral", "base": {"kind": "msc", **SIZES, **WIDTHS}}, {}, {}),
}
# video -> its rows, and the words of each of its captions
CASES: dict[str, dict[str, tuple[int, list[int]]]] = {
    "one query": {"a": (40, [3])},
    "one video": {"a": (40, [3, 1, 5])},
    "one caption a video": {"a": (40, [3]), "b": (130, [2]), "c": (9, [4])},
    "27 captions": {"a": (40, [3] * 27), "b": (12, [2, 4])},
    "a video of one row": {"a": (1, [3, 2]), "b": (200, [4, 1])},
    "one row everywhere": {"a": (1, [3, 2]), "b": (1, [4, 1])},
    "captions over the limit": {"a": (40, [30, 2]), "b": (50, [7, 6])},
}
DIM, TEXT = 6, 5


def _arrays(case: dict[str, tuple[int, list[int]]]) -> Arrays:
    random = np.random.default_rng(0)
    videos = {name: random.normal(size=(rows, DIM)).astype(np.float32) for name, (rows, _) in case.items()}
    queries = [(name, random.normal(size=(n, TEXT)).astype(np.float32)) for name, (_, captions) in case.items() for n in captions]
    # A teacher of other rows than the student's, and a sentence vector of each query.
    seen = {name: random.normal(size=(rows % 17 + 1, TEXT)).astype(np.float32) for name, (rows, _) in case.items()}
    sentences = random.normal(size=(len(queries), TEXT)).astype(np.float32)
    return Arrays(videos, queries, teacher=sentences, sentences=sentences, teacher_frames=seen)


def _settings(kind: str) -> Experiment:
    model, objectives, clips = KINDS[kind]
    return experiment(model=model, objectives=objectives, clips=clips, training={"learning_rate": 1e-2, "epochs": 2})


def _steps(settings: Experiment, arrays: Arrays, *, scale: float = 1.0) -> None:
    """Two steps, the second with hard negatives; then every query is ranked."""
    split = arrays.split(settings)
    trainee, optimizer, _ = prepare(settings, split, 1, torch.device("cpu"))
    for name, value in trainee.named_parameters():
        if "norm" in name and name.endswith("weight"):
            value.data.mul_(scale)
    batch = Batches(split, settings.model.max_words, torch.device("cpu")).gather(torch.arange(len(split.videos)))
    for epoch in (0, settings.objectives.triplet.hard_start_epoch):
        trainee.train()
        optimizer.zero_grad()
        loss, terms = loop.loss_of(trainee, batch, settings, epoch)
        loss.backward()
        assert loss.isfinite(), terms
        wrong = [n for n, p in trainee.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
        assert not wrong, wrong
        optimizer.step()
    scores = rank(trainee.model, split, settings.evaluation)
    assert scores.fused.shape == (len(split.queries), len(split.videos))
    assert all(values.isfinite().all() for values in (scores.fused, *scores.branches.values()))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_the_released_code_fails_on(kind: str, case: str) -> None:
    _steps(_settings(kind), _arrays(CASES[case]))


@pytest.mark.parametrize("kind", KINDS)
def test_scores_far_apart_do_not_overflow(kind: str) -> None:
    _steps(_settings(kind), _arrays({"a": (40, [3, 2]), "b": (12, [5]), "c": (150, [1, 4])}), scale=30.0)
