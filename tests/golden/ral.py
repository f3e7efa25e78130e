"""The golden arrays of RAL, every set of them that lies beside the project, and the heads built from their weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from pipeline.models.distributions import GaussianHead
from tests.conftest import NO_SHARED
from tests.golden.arrays import FACTOR, Golden

HEAD = {
    "mean_attention.expand": "pie_net_{}.attention.w_1",
    "mean_attention.contract": "pie_net_{}.attention.w_2",
    "mean": "pie_net_{}.fc",
    "norm": "pie_net_{}.layer_norm",
    "spread_attention.expand": "uncertain_net_{}.attention.w_1",
    "spread_attention.contract": "uncertain_net_{}.attention.w_2",
    "spread_attended": "uncertain_net_{}.fc",
    "spread_whole": "uncertain_net_{}.fc2",
}


class Ral(Golden):
    """RAL's arrays: as `Golden`, with gradients whose floor is relative to their largest entry."""

    def close_relative(self, ours: Tensor | None, theirs: Tensor, floor: float, name: str = "") -> None:
        """The largest difference, as a share of the largest entry, within ten floors and one rounding."""
        assert ours is not None, name
        largest = theirs.double().abs().max().item()
        allowed = max(FACTOR * floor * largest, float(np.spacing(np.float32(largest))))
        difference = (ours.double() - theirs.double()).abs().max().item()
        assert difference <= allowed, f"{name}: {difference:.2e}, allowed {allowed:.2e}"


def sets() -> list[Path]:
    """RAL's folder of every set of golden arrays of the methods beside the project."""
    shared = Path(__file__).resolve().parents[2].parent / "shared"
    return sorted(path.parent for path in shared.glob("golden_methods*/**/ral/noise_floor.json"))


@pytest.fixture(scope="session", params=sets() or [None], ids=lambda path: path.parent.name if path else "absent")
def ral(request: pytest.FixtureRequest) -> Ral:
    if request.param is None:
        pytest.skip(f"{NO_SHARED}/golden_methods/ral")
    return Ral(request.param)


def head(weights: dict[str, Tensor], of: str) -> GaussianHead:
    """The head of `video` or `text`."""
    made = GaussianHead(len(weights[f"pie_net_{of}.layer_norm.bias"]))
    names = {f"{ours}.{end}": f"{theirs.format(of)}.{end}" for ours, theirs in HEAD.items() for end in ("weight", "bias")}
    made.load_state_dict({ours: weights[theirs] for ours, theirs in names.items() if theirs in weights})
    return made


def leaf(value: Tensor) -> Tensor:
    """The same values as something to differentiate by."""
    return value.detach().clone().requires_grad_()


def names(ral: Ral, file: str, of: str) -> list[str]:
    with np.load(ral.folder / f"{file}.npz") as arrays:
        return [str(name) for name in arrays[of]]


__all__ = ["FACTOR", "HEAD", "Ral", "head", "leaf", "names", "ral"]
