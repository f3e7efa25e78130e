"""Checkpoints in the store: weights, and all a killed run needs to go on bit by bit. No pickle, so opening a stranger's runs no code."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline.errors import StoreSchema
from pipeline.model.dual_branch import DualBranch
from pipeline.sections.method import Experiment
from pipeline.store import Reader, create, open_store


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
    found = {
        "torch": torch.get_rng_state().numpy(),
        "sampler": sampler.numpy(),
        "numpy": np.concatenate([keys.astype(np.uint64), np.array([position, has_gauss], np.uint64)]),
        "numpy_cached": np.array(cached, np.float64),
        "python": np.array(numbers, np.uint64),
        "python_gauss": np.array(np.nan if gauss is None else gauss, np.float64),
    }
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_rng_state().numpy()
    return found


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


def dimensions(model: DualBranch) -> dict[str, int]:
    """What beside the configuration decides the shapes of a model's parameters."""
    windows = {name: getattr(model, name).block.windows.shape[1] for name in ("frame", "clip")}
    return {"video_dim": model.video_dim, "text_dim": model.text_dim, "frames": windows["frame"], "clips": windows["clip"]}


def save_model(
    path: Path,
    weights: Mapping[str, Tensor],
    settings: Experiment,
    dims: Mapping[str, int],
    *,
    recipe: Mapping[str, Any] | None = None,
    history: list[dict[str, float]] | None = None,
    **attrs: Any,
) -> None:
    """Write a checkpoint: arrays `model/<parameter>`, table `history`, attributes `config` (the experiment), `dims`, and `attrs`."""
    with create(path, stage="checkpoint", recipe=recipe, config=settings.model_dump(), dims=dict(dims), **attrs) as writer:
        for name, value in weights.items():
            writer.array(f"model/{name}", value.detach().cpu().numpy())
        if history:
            writer.table("history", pd.DataFrame(history))


def load_model(path: str | Path) -> tuple[DualBranch, Experiment, dict[str, Any]]:
    """The model of a checkpoint, in evaluation mode on the CPU; its experiment; its attributes.

    Errors: StoreError when the file is not a whole checkpoint of this version, or its weights are not those of its configuration.
    """
    with open_store(path, stage="checkpoint") as store:
        experiment = Experiment.model_validate(store.attrs["config"])
        dims = store.attrs["dims"]
        model = DualBranch(experiment.model, dims["video_dim"], dims["text_dim"], frames=dims["frames"], clips=dims["clips"])
        _fill(model.state_dict(), _arrays(store, "model"), path)
        return model.eval(), experiment, store.attrs


def save_state(
    path: Path,
    model: DualBranch,
    moments: Mapping[str, Tensor],
    states: Mapping[str, np.ndarray],
    state: State,
    recipe: Mapping[str, Any],
) -> None:
    """Write the whole state of a run after an epoch: one file, so that its parts cannot come from different epochs."""
    counters = {key: getattr(state, key) for key in ("epoch", "steps", "best_epoch", "best_sumr", "stale")}
    with create(path, stage="training", recipe=recipe, counters=counters, notes=state.notes) as writer:
        # Some 1,200 tensors: one array per kind is written ten times faster than one per tensor.
        names = {"model": list(model.state_dict()), "optimizer": list(moments)}
        writer.attrs(names=names)
        for kind, tensors, order in (
            ("model", model.state_dict(), names["model"]),
            ("best", state.best, names["model"]),
            ("optimizer", moments, names["optimizer"]),
        ):
            writer.array(kind, torch.cat([tensors[name].detach().cpu().flatten() for name in order]).numpy())
        for name, array in states.items():
            writer.array(f"random/{name}", array)
        writer.table("history", pd.DataFrame(state.history))


def load_state(path: Path, model: DualBranch) -> tuple[State, dict[str, Tensor], dict[str, np.ndarray]]:
    """Fill `model` from a stored run; returns its state, the optimiser's moments and the random states. Errors: StoreError."""
    with open_store(path, stage="training") as store:
        names, shapes = store.attrs["names"], {name: tuple(value.shape) for name, value in model.state_dict().items()}
        if names["model"] != list(shapes):
            raise StoreSchema(
                "the weights do not fit the configuration stored with them", where=path, fix="delete the file and train again"
            )
        _fill(model.state_dict(), _unpack(store.array("model"), names["model"], shapes), path)
        best = _unpack(store.array("best"), names["model"], shapes)
        of = {name: shapes[name.partition("/")[2]] for name in names["optimizer"]}
        moments = _unpack(store.array("optimizer"), names["optimizer"], of)
        history = store.table("history").to_dict("records")
        state = State(**store.attrs["counters"], history=history, best=_tensors(best), notes=list(store.attrs["notes"]))  # type: ignore[arg-type]
        return state, _tensors(moments), _arrays(store, "random")


def recipe_of(path: Path) -> str | None:
    """The recipe hash of a stored run, or None when there is none that can be read."""
    from pipeline.errors import StoreError

    try:
        with open_store(path, stage="training") as store:
            return str(store.attrs["recipe_hash"])
    except StoreError:
        return None


def _arrays(store: Reader, prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(f"{prefix}/"): store.array(name) for name in store.names(prefix)}


def _unpack(flat: np.ndarray, names: list[str], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    ends = np.cumsum([int(np.prod(shapes[name])) for name in names])
    return {name: part.reshape(shapes[name]) for name, part in zip(names, np.split(flat, ends[:-1]), strict=True)}


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _fill(target: Mapping[str, Tensor], source: Mapping[str, np.ndarray], path: str | Path) -> None:
    wrong = sorted(set(target) ^ set(source)) or sorted(n for n, t in target.items() if tuple(t.shape) != source[n].shape)
    if wrong:
        raise StoreSchema(
            f"the weights do not fit the configuration stored with them: {json.dumps(wrong[:5])}", where=path, fix="train again"
        )
    for name, value in target.items():
        value.copy_(torch.from_numpy(source[name]))
