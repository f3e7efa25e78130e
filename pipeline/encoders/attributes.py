"""What a file of features or query states says of its encoder."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.config.schema import Config
from pipeline.core.errors import StoreError
from pipeline.core.store import open_store
from pipeline.encoders.base import VideoEncoder


def of(config: Config, encoder: str, model: VideoEncoder) -> dict[str, Any]:
    """Of a shard this model encoded."""
    return {
        "encoder": encoder,
        "architecture": config.network(encoder).architecture,
        "weights_sha256": model.weights.sha256 if model.weights else "",
        "preprocessing": model.preprocessing,
        "dim": model.dim,
        "normalised": False,
    }


def empty(config: Config, encoder: str) -> dict[str, Any]:
    """Of a shard without a single usable video: no model was loaded for it."""
    return {"encoder": encoder, "architecture": config.network(encoder).architecture, "dim": 0, "normalised": False}


def previous(files: Iterable[Path], recipe: str, stage: str = "features") -> dict[str, Any] | None:
    """Those of a file that is there, for when nothing is computed; None when there is none of the recipe."""
    names = ("encoder", "architecture", "weights_sha256", "preprocessing", "dim", "normalised", "teacher")
    for file in files:
        with suppress(StoreError), open_store(file, stage=stage) as store:
            if store.attrs["recipe_hash"] == recipe and "encoder" in store.attrs:
                return {name: store.attrs[name] for name in names if name in store.attrs}
    return None
