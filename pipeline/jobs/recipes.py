"""Recipes: everything a stage's result depends on beside its input files, as plain dictionaries.

The hash of a recipe goes into file names, HDF5 attributes and the rules' params, so a changed value re-runs exactly the stages that
use it. Nothing here imports torch: the workflow calls these at parse time.
"""

from __future__ import annotations

import functools
from importlib import metadata
from typing import Any

from pipeline.clips.recipe import recipe as clips_part
from pipeline.config.method import Experiment
from pipeline.config.schema import Config
from pipeline.core.plugins import module_of
from pipeline.core.provenance import code_digest
from pipeline.encoders.weights import identity


@functools.cache
def version(library: str) -> str:
    """The installed version of a library: another one may give other numbers."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "not installed"  # the encoder that needs it says so when it is loaded


def encoding(config: Config, encoder: str, stage: str = "stage") -> list[str]:
    """The modules whose code, with everything they import, encodes with an encoder: of another kind, or another `stage`, nothing."""
    return [f"pipeline.encoders.{stage}", module_of("encoders", config.network(encoder).kind)]


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
    return {
        "code": code_digest(*encoding(config, encoder)),
        "encoder": settings.model_dump(exclude={"weights", "sha256", "sampling"}, exclude_none=True),
        "weights": identity(settings),
        "stream": settings.stream.recipe,
        "decoding": decoding(config),
        **{library: version(library) for library in settings.libraries},
    }


def configured(features: dict[str, Any]) -> dict[str, Any]:
    """What of a recipe of `features` is of the configuration: a store with other values is another one's, whatever code made both."""
    return {name: features[name] for name in ("encoder", "weights", "stream") if name in features}


def text(config: Config, encoder: str) -> dict[str, Any]:
    """The query states of one text encoder, or that they were imported."""
    if config.imported(encoder):
        return {"imported": encoder}
    settings = config.network(encoder)
    return {
        "code": code_digest(*encoding(config, encoder, "text_stage")),
        "encoder": settings.model_dump(exclude={"weights", "sha256", *type(settings).of_pictures}),
        "weights": identity(settings),
        **{library: version(library) for library in settings.libraries},
    }


def clips(config: Config, chosen: Experiment) -> dict[str, Any]:
    """The pooled and merged rows of an experiment's features."""
    return {"clips": clips_part(chosen), "features": {name: features(config, name) for name in chosen.features}}


def training(config: Config, experiment: str, seed: int) -> dict[str, Any]:
    """One trained model."""
    chosen = config.experiment(experiment)
    texts = {name: text(config, name) for name in {chosen.text, chosen.teacher or chosen.text}}
    return {
        "experiment": chosen.model_dump(exclude={"evaluation"}),
        "fusion": chosen.evaluation.model_dump(exclude={"split", "relevance"}),  # early stopping looks at it too
        "clips": clips(config, chosen),
        **({"teacher_clips": clips(config, chosen.teaching)} if chosen.teaching else {}),
        "text": texts,
        "seed": seed,
    }


def cost(config: Config, experiment: str) -> dict[str, Any]:
    """The cost of one method: of the training what decides how long a step takes."""
    chosen = config.experiment(experiment)
    timed = {"batch_videos", "precision", "recompute", "threads", "compile"}
    return {
        "experiment": chosen.model_dump(exclude={"evaluation", "training"}),
        "training": chosen.training.model_dump(include=timed),
        "fusion": chosen.evaluation.model_dump(exclude={"split", "relevance"}),
        "galleries": config.compare.galleries,
    }


def evaluation(config: Config, experiment: str) -> dict[str, Any]:
    """One evaluation."""
    chosen = config.experiment(experiment).evaluation
    return chosen.model_dump(exclude={"relevance"} if chosen.relevance is None else set())
