"""The state of a training in the store: all a killed run needs to go on bit by bit."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline.core.errors import StoreSchema
from pipeline.core.store import AGAIN, create, open_store
from pipeline.models.checkpoint import arrays, fill
from pipeline.training.trainee import Trainee


@dataclass
class State:
    """How far a run is: after `epoch` whole epochs.

    `history` holds one row per epoch; `best` the weights of `best_epoch` (1-based); `stale` counts the epochs since; `steps` those of the
    optimiser; `moments` its state; `random` the states of all generators; `notes` the warnings so far.
    """

    epoch: int = 0
    steps: int = 0
    best_epoch: int = 0
    best_sumr: float = float("-inf")
    stale: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def random_states(sampler: Tensor) -> dict[str, np.ndarray]:
    """The states of every generator a run draws from."""
    _, numbers, gauss = random.getstate()
    legacy: Any = np.random.get_state()  # noqa: NPY002 - the global generator is what libraries may draw from
    _, keys, position, has_gauss, cached = legacy
    states = {
        "torch": torch.get_rng_state().numpy(),
        "sampler": sampler.numpy(),
        "numpy": np.concatenate([keys.astype(np.uint64), np.array([position, has_gauss], np.uint64)]),
        "numpy_cached": np.array(cached, np.float64),
        "python": np.array(numbers, np.uint64),
        "python_gauss": np.array(np.nan if gauss is None else gauss, np.float64),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state().numpy()
    return states


def restore_random(states: Mapping[str, np.ndarray]) -> Tensor:
    """Set every generator to a stored state; returns the sampler's."""
    torch.set_rng_state(torch.from_numpy(states["torch"]))
    keys = states["numpy"]
    restored = ("MT19937", keys[:-2].astype(np.uint32), int(keys[-2]), int(keys[-1]), float(states["numpy_cached"]))
    np.random.set_state(restored)  # noqa: NPY002
    gauss = float(states["python_gauss"])
    random.setstate((3, tuple(int(n) for n in states["python"]), None if np.isnan(gauss) else gauss))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(torch.from_numpy(states["cuda"]))
    return torch.from_numpy(states["sampler"])


def seed_everything(seed: int) -> None:
    """Seed torch, numpy and python."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)


def save_state(
    path: Path,
    trainee: Trainee,
    moments: Mapping[str, Tensor],
    states: Mapping[str, np.ndarray],
    state: State,
    recipe: Mapping[str, Any],
) -> None:
    """Write the whole state of a run after an epoch: one file, so that its parts cannot come from different epochs."""
    counters = {key: getattr(state, key) for key in ("epoch", "steps", "best_epoch", "best_sumr", "stale")}
    with create(path, stage="training", recipe=recipe, counters=counters, notes=state.notes) as writer:
        # Some 1,200 tensors: one array per kind is written ten times faster than one per tensor.
        now = trainee.state_dict()
        names = {"now": list(now), "best": list(state.best), "optimizer": list(moments)}
        writer.attrs(names=names)
        for kind, tensors in (("now", now), ("best", state.best), ("optimizer", moments)):
            writer.array(kind, torch.cat([tensors[name].detach().cpu().flatten() for name in names[kind]]).numpy())
        for name, array in states.items():
            writer.array(f"random/{name}", array)
        writer.table("history", pd.DataFrame(state.history))


def load_state(path: Path, trainee: Trainee) -> tuple[State, dict[str, Tensor], dict[str, np.ndarray]]:
    """Fill `trainee` from a stored run; returns its state, the optimiser's moments and the random states. Errors: StoreError."""
    with open_store(path, stage="training") as store:
        names, shapes = store.attrs["names"], {name: tuple(value.shape) for name, value in trainee.state_dict().items()}
        if names["now"] != list(shapes):
            raise StoreSchema("the weights do not fit the configuration stored with them", where=path, fix=AGAIN)
        fill(trainee.state_dict(), _unpack(store.array("now"), names["now"], shapes), path)
        best = _unpack(store.array("best"), names["best"], {name: shapes[f"model.{name}"] for name in names["best"]})
        of = {name: shapes[name.partition("/")[2]] for name in names["optimizer"]}
        moments = _unpack(store.array("optimizer"), names["optimizer"], of)
        history = store.table("history").to_dict("records")
        state = State(**store.attrs["counters"], history=history, best=_tensors(best), notes=list(store.attrs["notes"]))  # type: ignore[arg-type]
        return state, _tensors(moments), arrays(store, "random")


def recipe_of(path: Path) -> str | None:
    """The recipe hash of a stored run, or None when there is none that can be read."""
    from pipeline.core.errors import StoreError

    try:
        with open_store(path, stage="training") as store:
            return str(store.attrs["recipe_hash"])
    except StoreError:
        return None


def _unpack(flat: np.ndarray, names: list[str], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    ends = np.cumsum([int(np.prod(shapes[name])) for name in names])
    return {name: part.reshape(shapes[name]) for name, part in zip(names, np.split(flat, ends[:-1]), strict=True)}


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
