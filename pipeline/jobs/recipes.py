"""Recipes: everything a stage's result depends on beside its input files, as plain dictionaries.

The hash of a recipe goes into file names, HDF5 attributes and the rules' params, so a changed value re-runs exactly the stages that
use it. Nothing here imports torch: the workflow calls these at parse time.
"""

from __future__ import annotations

import functools
from importlib import metadata
from typing import Any

from pipeline.clips.recipe import recipe as clips_part
from pipeline.config.schema import Config
from pipeline.config.streams import stream_of
from pipeline.core.provenance import code_digest
from pipeline.encoders.weights import identity


@functools.cache
def version(library: str) -> str:
    """The installed version of a library: another one may give other numbers."""
    return metadata.version(library)


def decoding(config: Config) -> dict[str, Any]:
    """What decides the pixels of a frame, whatever the stream.

    The code is part of it: a job that runs again because its code changed must not keep what the old code left in its store.
    """
    return {
        "code": code_digest("pipeline.video.stage"),
        "decoder": config.video.decoder,
        "keep_truncated": config.video.keep_truncated,
        "frames_fps": config.video.frames_fps,
        "av": version("av"),
        "pillow": version("pillow"),
        **({"decord": version("decord")} if config.video.decoder == "decord" else {}),
    }


def frames(config: Config, streams: dict) -> dict[str, Any]:
    """The frames stage."""
    return {"decoding": decoding(config), "streams": {name: stream.recipe for name, stream in streams.items()}}


def features(config: Config, encoder: str) -> dict[str, Any]:
    """The features of one encoder; of imported ones their content speaks, in the job's params (pipeline/jobs/dag.py)."""
    if config.imported(encoder):
        return {"imported": encoder}
    settings = config.network(encoder)
    library = "open_clip_torch" if settings.kind == "open_clip" else "pytorchvideo"
    return {
        "code": code_digest("pipeline.encoders.stage"),
        "encoder": settings.model_dump(exclude={"weights", "sha256", "sampling"}),
        "weights": identity(settings),
        "stream": stream_of(settings).recipe,
        "decoding": decoding(config),
        library: version(library),
    }


def text(config: Config, encoder: str) -> dict[str, Any]:
    """The query states of one text encoder, or that they were imported."""
    if config.imported(encoder):
        return {"imported": encoder}
    settings = config.network(encoder)
    return {
        "code": code_digest("pipeline.encoders.stage"),
        "encoder": settings.model_dump(include={"kind", "architecture", "precision"}),
        "weights": identity(settings),
        "open_clip_torch": version("open_clip_torch"),
    }


def clips(config: Config, experiment: str) -> dict[str, Any]:
    """The pooled and merged rows of one experiment."""
    chosen = config.experiment(experiment)
    return {"clips": clips_part(chosen), "features": {name: features(config, name) for name in chosen.features}}


def training(config: Config, experiment: str, seed: int) -> dict[str, Any]:
    """One trained model."""
    chosen = config.experiment(experiment)
    texts = {name: text(config, name) for name in {chosen.text, chosen.teacher or chosen.text}}
    return {
        "experiment": chosen.model_dump(exclude={"evaluation"}),
        "fusion": chosen.evaluation.fusion,  # early stopping looks at it too
        "clips": clips(config, experiment),
        "text": texts,
        "seed": seed,
    }


def evaluation(config: Config, experiment: str) -> dict[str, Any]:
    """One evaluation."""
    return config.experiment(experiment).evaluation.model_dump()
