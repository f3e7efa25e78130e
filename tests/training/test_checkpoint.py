"""Checkpoints: whole, without pickle, and enough to go on from."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from pipeline.config.method import Experiment
from pipeline.core.errors import StoreError, StoreSchema
from pipeline.models.base import Dims
from pipeline.models.checkpoint import load_model, save_model
from pipeline.models.msc import DualBranch
from pipeline.training.checkpoint import random_states, restore_random, seed_everything

SETTINGS = Experiment.model_validate({"features": ["a"], "text": "a", "model": {"hidden": 8, "heads": 2, "widths": [None, 0.5]}})


@pytest.fixture
def model() -> DualBranch:
    return DualBranch(SETTINGS.model, Dims(5, 4, 8, 4))


def test_a_model_comes_back(model: DualBranch, tmp_path: Path) -> None:
    save_model(tmp_path / "c.h5", model.state_dict(), SETTINGS, model.dims, epoch=3, notes=["one"])
    again, settings, attrs = load_model(tmp_path / "c.h5")
    assert settings == SETTINGS
    assert (attrs["epoch"], attrs["notes"], attrs["dims"]["clips"]) == (3, ["one"], 4)
    assert not again.training
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))


def test_the_same_weights_make_the_same_bytes(model: DualBranch, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_model(tmp_path / name, model.state_dict(), SETTINGS, model.dims)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_weights_of_another_model_are_refused(model: DualBranch, tmp_path: Path) -> None:
    weights = model.state_dict()
    del weights["token"]
    save_model(tmp_path / "c.h5", weights, SETTINGS, model.dims)
    with pytest.raises(StoreSchema, match="token"):
        load_model(tmp_path / "c.h5")
    save_model(tmp_path / "c.h5", model.state_dict(), SETTINGS, model.dims._replace(video_dim=6))
    with pytest.raises(StoreSchema, match="do not fit"):
        load_model(tmp_path / "c.h5")


class Trap:
    def __reduce__(self):
        return (open, (str(Path(__file__).with_name("trapped")), "w"))


def test_a_strangers_checkpoint_runs_no_code(model: DualBranch, tmp_path: Path) -> None:
    trap = pickle.dumps(Trap())
    (tmp_path / "pickle.h5").write_bytes(trap)
    with pytest.raises(StoreError):
        load_model(tmp_path / "pickle.h5")
    save_model(tmp_path / "c.h5", model.state_dict(), SETTINGS, model.dims)
    with h5py.File(tmp_path / "c.h5", "a") as file:
        del file["model/token"]
        file.create_dataset("model/token", data=np.void(trap))
    with pytest.raises((StoreError, ValueError, TypeError)):
        load_model(tmp_path / "c.h5")
    assert not Path(__file__).with_name("trapped").exists()


def test_random_states_come_back() -> None:
    seed_everything(5)
    np.random.normal()  # noqa: NPY002 - leaves a cached second value
    random.gauss(0, 1)
    sampler = torch.Generator().manual_seed(3)
    states = random_states(sampler.get_state())

    def draw(generator: torch.Generator) -> tuple:
        legacy = np.random.normal()  # noqa: NPY002
        return torch.rand(3).tolist(), legacy, random.gauss(0, 1), random.random(), torch.rand(1, generator=generator).item()

    first = draw(sampler)
    again = torch.Generator()
    again.set_state(restore_random(states))
    assert draw(again) == first
