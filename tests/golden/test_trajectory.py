"""Six optimiser steps of the whole model against the released code's (golden traj)."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.interchange.released_names import to_released
from pipeline.training.optimizer import BertAdam
from tests.golden import released_model
from tests.golden.arrays import Golden, golden
from tests.golden.test_encoder import SMALL

__all__ = ["golden"]

TERMS = {
    "clip_nce": ("nce_clip",),
    "clip_trip": ("triplet_clip",),
    "frame_nce": ("nce_frame",),
    "frame_trip": ("triplet_frame",),
    "vidlvlctl": ("cbva",),
    "txt_rkd": ("tcpl_distance", "tcpl_angle"),
}


def test_trajectory(golden: Golden) -> None:
    with np.load(golden.folder / "traj.npz") as stored:
        expected = {name: stored[name] for name in stored.files}
    rate, warmup, total, decay = expected["cfg"]
    model, inputs = released_model.small(golden), golden("small_inputs")
    before = {name: value.clone() for name, value in to_released(dict(model.named_parameters())).items()}
    optimizer = BertAdam(
        model.named_parameters(), model.decays, learning_rate=rate, total_steps=int(total), warmup=warmup, weight_decay=decay
    )
    for step, theirs in enumerate(expected["terms"]):
        optimizer.zero_grad()
        loss, terms = released_model.loss(model, inputs, SMALL, 0.75)
        for name, value in zip(expected["term_names"], theirs, strict=True):
            # A step divides by sqrt(v): rounding of small gradients moves weights by up to the learning rate's share of 1e-4.
            assert abs(sum(terms[t].item() for t in TERMS[str(name)]) - value) < 2e-6 + 1e-5 * step * abs(value), (step, name)
        assert abs(loss.item() - expected["loss"][step]) < 2e-6 + 1e-5 * step * expected["loss"][step]
        loss.backward()
        optimizer.step()
    after = to_released(dict(model.named_parameters()))
    exact_zero = set(golden.floor["small.grad.zero_in_exact_arithmetic"])
    for name, moved, size in zip(expected["param_names"], expected["param_delta_norm"], expected["param_final_norm"], strict=True):
        name = str(name)
        delta = (after[name] - before[name]).double().norm().item()
        assert abs(after[name].detach().double().norm().item() - size) < 1e-4 * max(size, 1), name
        if name not in exact_zero:
            assert abs(delta - moved) < 1e-3 * moved, name
    with torch.no_grad():
        for key, name in (("final_vproj", "vproj_clip.weight"), ("final_modular", "modular_vector_mapping.weight")):
            np.testing.assert_allclose(after[name], expected[key], atol=2e-5)
