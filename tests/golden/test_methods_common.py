"""What the released codes of MS-SL, GMMFormer and v2 share: pooling of clips and frames, their scale, and the optimiser."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.clips.stage import merge
from pipeline.config.base import merge as laid
from pipeline.config.method import Experiment
from pipeline.ranking.split import normalised, real_rows
from pipeline.training.optimizer import BertAdam, schedule
from tests.conftest import NO_SHARED
from tests.golden import released_methods
from tests.golden.arrays import FACTOR

CAPPED = Experiment.model_validate(
    laid(
        {"features": ["a"], "text": "a", "model": {"kind": "ms_sl"}},
        {"clips": {"frame_rows": "capped", "method": "rows", "dtype": "float32"}},
    )
)
COMMON = sorted({path.parent / "common" for path in released_methods.sets()})


class Common:
    def __init__(self, folder: Path) -> None:
        self.folder, self.floor = folder, json.loads((folder / "noise_floor.json").read_text())

    def __call__(self, name: str) -> dict[str, np.ndarray]:
        with np.load(self.folder / f"{name}.npz") as arrays:
            return {key: arrays[key] for key in arrays.files}

    def close(self, ours: Tensor | np.ndarray, theirs: np.ndarray, key: str) -> None:
        difference = np.abs(np.asarray(ours, dtype=np.float64) - theirs.astype(np.float64)).max()
        assert difference <= max(FACTOR * self.floor[key], float(np.spacing(np.float32(np.abs(theirs).max())))), key


@pytest.fixture(params=COMMON or [None], ids=lambda path: path.parent.name if path else "absent")
def common(request: pytest.FixtureRequest) -> Common:
    if request.param is None:
        pytest.skip(f"{NO_SHARED}/golden_methods")
    return Common(request.param)


def test_pooling(common: Common) -> None:
    arrays = common("pooling")
    cases = [name.removesuffix("_raw") for name in arrays if name.endswith("_raw")]
    assert {"L1", "L48", "L129", "L192", "zeros"} <= set(cases)
    for case in cases:
        found = merge([arrays[f"{case}_raw"]], CAPPED)
        clips, frames, count = (torch.from_numpy(found[name])[0] for name in ("clips", "frames", "frame_count"))
        assert int(count) == len(arrays[f"{case}_frame"])
        assert real_rows(count[None], len(frames))[0].sum() == count
        assert not frames[count:].any()
        common.close(clips, arrays[f"{case}_clip"], "pooling.clip_if_pooled_in_float32")
        common.close(frames[:count], arrays[f"{case}_frame"], "pooling.frame_if_pooled_in_float32")
        common.close(normalised(clips), arrays[f"{case}_clip_l2"], "pooling.clip_l2_if_pooled_in_float32")
        common.close(normalised(frames[:count]), arrays[f"{case}_frame_l2"], "pooling.frame_l2_if_pooled_in_float32")


@pytest.mark.parametrize("tag", ["a", "b", "c"])
def test_steps(common: Common, tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = common("bertadam")
    rate, warmup, total = expected[f"cfg_{tag}"].tolist()
    if total < 0:  # a constant rate, which no training here has: the moments and updates are compared
        monkeypatch.setattr("pipeline.training.optimizer.schedule", lambda *_: 1.0)
    weight, bias = (nn.Parameter(torch.from_numpy(expected[name].copy())) for name in ("w0", "b0"))
    optimizer = BertAdam(
        [("weight", weight), ("bias", bias)], lambda name: name != "bias", learning_rate=rate, total_steps=int(total), warmup=warmup
    )
    for i, (by_weight, by_bias) in enumerate(zip(expected["grad_w"], expected["grad_b"], strict=True)):
        if i:  # theirs says 0 before the first step, whatever it then takes
            assert optimizer.rate == pytest.approx(expected[f"lr_{tag}"][i], abs=1e-12)
        weight.grad, bias.grad = torch.from_numpy(by_weight.copy()), torch.from_numpy(by_bias.copy())
        optimizer.step()
        common.close(weight.detach(), expected[f"{tag}_weights"][i], f"bertadam.{tag}_weights")
        common.close(bias.detach(), expected[f"{tag}_bias"][i], f"bertadam.{tag}_bias")
    common.close(optimizer.first["weight"], expected[f"{tag}_m"], f"bertadam.{tag}_m")
    common.close(optimizer.second["weight"], expected[f"{tag}_v"], f"bertadam.{tag}_v")


def test_schedule(common: Common) -> None:
    expected = {name: values for name, values in common("bertadam").items() if name.startswith("sched_")}
    assert expected
    for name, values in expected.items():
        warmup, total = name.removeprefix("sched_w").split("_t")
        ours = [schedule(step, int(total), float(warmup)) for step in range(len(values))]
        np.testing.assert_allclose(ours, values, rtol=0, atol=1e-9)
