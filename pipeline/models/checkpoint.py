"""Trained models in the store: their weights, and the experiment they belong to. No pickle, so opening a stranger's runs no code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline.config.method import Experiment
from pipeline.core.errors import StoreSchema
from pipeline.core.store import AGAIN, Reader, create, open_store
from pipeline.models.base import Dims, Retriever, build


def save_model(
    path: Path,
    weights: Mapping[str, Tensor],
    settings: Experiment,
    dims: Dims,
    *,
    recipe: Mapping[str, Any] | None = None,
    history: list[dict[str, float]] | None = None,
    **attrs: Any,
) -> None:
    """Write a checkpoint: arrays `model/<parameter>`, table `history`, attributes `config` (the experiment), `dims`, and `attrs`."""
    with create(path, stage="checkpoint", recipe=recipe, config=settings.model_dump(), dims=dims._asdict(), **attrs) as writer:
        for name, value in weights.items():
            writer.array(f"model/{name}", value.detach().cpu().numpy())
        if history:
            writer.table("history", pd.DataFrame(history))


def load_model(path: str | Path, **expected: Any) -> tuple[Retriever, Experiment, dict[str, Any]]:
    """The model of a checkpoint, in evaluation mode on the CPU; its experiment; its attributes. `expected`: as in `open_store`.

    Errors: StoreError when the file is not a whole checkpoint of this version or not the expected one, or its weights are not those of its
    configuration.
    """
    with open_store(path, stage="checkpoint", **expected) as store:
        experiment = Experiment.model_validate(store.attrs["config"])
        model = build(experiment.model.kind, experiment.model, Dims(**store.attrs["dims"]))
        fill(model.state_dict(), arrays(store, "model"), path)
        return model.eval(), experiment, store.attrs


def arrays(store: Reader, prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(f"{prefix}/"): store.array(name) for name in store.names(prefix)}


def fill(target: Mapping[str, Tensor], source: Mapping[str, np.ndarray], path: str | Path) -> None:
    wrong = sorted(set(target) ^ set(source)) or sorted(n for n, t in target.items() if tuple(t.shape) != source[n].shape)
    if wrong:
        raise StoreSchema(f"the weights do not fit the configuration stored with them: {json.dumps(wrong[:5])}", where=path, fix=AGAIN)
    for name, value in target.items():
        value.copy_(torch.from_numpy(source[name]))
