"""The literal form of each method under its preset's name.

Own code on this project's parameters, for two uses only: the tests compare values and gradients against it, the benchmarks compare time and
memory. A batch holds `frames` [B, F, D], `frame_mask`, `clips` [B, C, D], `words` [Q, L, Dt], `word_mask`, `labels` [Q].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks import literal_gmmformer, literal_hlformer, literal_ral, literal_students
from benchmarks.literal_ms_sl import ms_sl
from pipeline.config.method import Experiment

Batch = dict[str, Tensor]
Terms = dict[str, Tensor]


def gmmformer(model: Any, batch: Batch, settings: Experiment) -> Terms:
    """docs/methods.md, GMMFormer and GMMFormer v2."""
    chosen = settings.objectives
    weights, diverse = chosen.nce.weights, chosen.query_diversity
    factors = (diverse.delta, diverse.alpha, *([diverse.focus] if diverse.form == "pair" else []))
    return literal_gmmformer.loss(
        model,
        batch,
        margin=chosen.triplet.margin,
        hard=True,
        pool=chosen.triplet.hard_pool,
        nce=(weights["clip"], weights["frame"]),
        diversity=(diverse.weight, *factors),
        match=chosen.optimal_matching.weight,
    )


def ral(model: Any, batch: Batch, settings: Experiment) -> Terms:
    """docs/methods.md, RAL, on GMMFormer v2."""
    chosen = settings.objectives
    shape = (len(batch["frames"]), chosen.ral.proxies, model.settings.hidden)
    weights, diverse = chosen.nce.weights, chosen.query_diversity
    return literal_ral.loss(
        model,
        batch,
        {side: torch.randn(shape) for side in ("text", "video")},
        margin=chosen.triplet.margin,
        hard=True,
        pool=chosen.triplet.hard_pool,
        nce=(weights["clip"], weights["frame"]),
        diversity=(diverse.weight, diverse.delta, diverse.alpha, diverse.focus),
        match=chosen.optimal_matching.weight,
        distribution=(chosen.ral.proxy_matching, chosen.ral.distribution_alignment),
    )


def hlformer(model: Any, batch: Batch, settings: Experiment) -> Terms:
    """docs/methods.md, HLFormer."""
    chosen = settings.objectives
    weights, diverse = chosen.nce.weights, chosen.query_diversity
    return literal_hlformer.loss(
        model,
        batch,
        margin=chosen.triplet.margin,
        hard=True,
        pool=chosen.triplet.hard_pool,
        nce=(weights["clip"], weights["frame"]),
        diversity=(diverse.weight, diverse.delta, diverse.alpha, diverse.focus),
        cones=chosen.entailment.weight,
    )


LOSSES = {
    "ms_sl": ms_sl,
    "gmmformer": gmmformer,
    "gmmformer_v2": gmmformer,
    "ral": ral,
    "hlformer": hlformer,
    **literal_students.LOSSES,
}
