"""The arrays of ../shared/golden and the tolerances they set: ten times the released code's own float32 error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import NO_SHARED

FACTOR = 10


class Golden:
    """`golden(name)` loads one file as tensors; `close` compares at the noise floor of `key`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.floor = json.loads((folder / "noise_floor.json").read_text())

    def __call__(self, name: str) -> dict[str, Tensor]:
        with np.load(self.folder / f"{name}.npz") as arrays:
            return {key: torch.from_numpy(arrays[key]) for key in arrays.files if arrays[key].dtype.kind in "fiub"}

    def close(self, ours: Tensor, theirs: Tensor, key: str, scale: float = 1.0) -> None:
        """Absolute difference within ten noise floors, and never asked to be below float32's own rounding of the value."""
        rounding = float(np.spacing(np.float32(theirs.abs().max().item())))
        allowed = max(FACTOR * self.floor[key] * scale, rounding)
        assert (ours.double() - theirs.double()).abs().max().item() <= allowed, f"{key}: allowed {allowed:.2e}"

    def close_gradient(self, ours: Tensor | None, theirs: Tensor) -> None:
        """Difference relative to the largest entry within ten of the released gradients' own."""
        assert ours is not None
        difference = (ours.double() - theirs.double()).abs().max() / theirs.abs().max()
        assert difference.item() <= FACTOR * self.floor["small.grad.max_rel"]


def sets() -> list[Path]:
    """Every set of golden arrays beside the project (`public`, and a held-out one where it is present)."""
    folder = Path(__file__).resolve().parents[2].parent / "shared" / "golden"
    return sorted(path for path in folder.glob("*") if (path / "noise_floor.json").is_file())


@pytest.fixture(scope="session", params=sets() or [None], ids=lambda path: path.name if path else "absent")
def golden(request: pytest.FixtureRequest) -> Golden:
    if request.param is None:
        pytest.skip(f"{NO_SHARED}/golden")
    return Golden(request.param)
