"""The optimiser against the released one: weights, moments and learning rates step by step, and the schedule."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.training.optimizer import BertAdam, schedule
from tests.golden.arrays import Golden, golden

__all__ = ["golden"]


@pytest.fixture
def expected(golden: Golden) -> dict:
    return {name: array.numpy() for name, array in golden("h_bertadam").items()}


@pytest.mark.parametrize("tag", ["a", "b", "c"])
def test_steps(expected, tag) -> None:
    rate, warmup, total = expected[f"{tag}_cfg"]
    weight, bias = (nn.Parameter(torch.from_numpy(expected[name].copy())) for name in ("w0", "b0"))
    optimizer = BertAdam(
        [("weight", weight), ("bias", bias)], lambda name: name != "bias", learning_rate=rate, total_steps=int(total), warmup=warmup
    )
    for i, (by_weight, by_bias) in enumerate(zip(expected["grad_w"], expected["grad_b"], strict=True)):
        assert optimizer.rate == pytest.approx(expected[f"{tag}_lr"][i], abs=1e-12)
        weight.grad, bias.grad = torch.from_numpy(by_weight.copy()), torch.from_numpy(by_bias.copy())
        optimizer.step()
        # One float32 rounding of a weight of size 1 is 6e-8; an update divides by sqrt(v), which magnifies the roundings of v.
        np.testing.assert_allclose(weight.detach(), expected[f"{tag}_weights"][i], atol=2e-7)
        np.testing.assert_allclose(bias.detach(), expected[f"{tag}_bias"][i], atol=2e-7)
    np.testing.assert_allclose(optimizer.first["weight"], expected[f"{tag}_m"], atol=1e-7)
    np.testing.assert_allclose(optimizer.second["weight"], expected[f"{tag}_v"], rtol=1e-6, atol=1e-9)


def test_first_step_with_warmup_moves_nothing(expected) -> None:
    assert (expected["a_weights"][0] == expected["w0"]).all()


def test_schedule(expected) -> None:
    names = [name for name in expected if name.startswith("sched_w")]
    assert names
    for name in names:
        warmup, total = name.removeprefix("sched_w").split("_t")
        found = [schedule(step, int(total), float(warmup)) for step in range(len(expected[name]))]
        np.testing.assert_allclose(found, expected[name], atol=1e-12, err_msg=name)
