"""What a reader must know of the runs beside their measures: the collection, what was left out, times, recipes, versions."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import numpy as np

from pipeline.core.errors import StoreError
from pipeline.core.layout import Layout
from pipeline.core.provenance import flat
from pipeline.core.store import open_store
from pipeline.datasets.table import Annotations
from pipeline.report.pick import ROWS, cut
from pipeline.report.runs import Bench, Model
from pipeline.video import quarantine

LIBRARIES = ("prvr", "torch", "open_clip_torch", "pytorchvideo", "decord", "av", "numpy", "h5py", "snakemake")
DIFFERENCES = 12  # values of an experiment that are listed
RECIPE = 12_000  # characters of a recipe that are shown
RECIPES = 40


def collection(annotations: Annotations | None, videos: int) -> dict[str, Any]:
    """Videos, queries and hours of each split, as the annotations have them."""
    if annotations is None:
        return {"videos": videos, "splits": []}
    counted = annotations.counts().to_dict("records") if len(annotations.videos) else []
    splits = [{str(key).replace("queries/video", "each"): value for key, value in row.items()} for row in counted]
    return {"videos": videos or len(annotations.videos), "splits": splits}


def set_aside(layout: Layout) -> dict[str, Any]:
    """The quarantine: how many by code, and the first rows."""
    rows = quarantine.read(layout.quarantine)
    shown = [{name: cut(row.get(name) or "") for name in ("id", "code", "message", "path")} for row in rows[:ROWS]]
    return {"total": len(rows), "codes": sorted(Counter(row["code"] for row in rows).items()), "rows": shown}


def left_out(bench: Bench) -> dict[str, list[str]]:
    """Videos and queries of the split that could not be ranked."""
    excluded = bench.best.first["excluded"]
    return {name: [cut(str(value), 80) for value in excluded[name]] for name in ("videos", "queries", "moments")}


def versions() -> list[tuple[str, str]]:
    """The libraries of this machine, which wrote the page."""
    known = [("Python", platform.python_version())]
    for name in LIBRARIES:
        try:
            known.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            known.append((name, "not installed"))
    return known


def trainings(models: list[Model]) -> list[dict[str, Any]]:
    """A row for each run: epochs, device, threads, torch, what it warned of."""
    rows = []
    for model in models:
        for run in model.runs:
            attrs = run.attrs
            imported = run.metrics.get("imported")
            rows.append(
                {
                    "model": model.name,
                    "seed": run.seed,
                    "epoch": run.metrics.get("epoch"),
                    "epochs": attrs.get("epochs_run", ""),
                    "selection": run.metrics.get("selection_split"),
                    "device": f"imported: {imported}" if imported else _device(attrs),
                    "torch": attrs.get("torch", ""),
                    "notes": [cut(str(note), 300) for note in attrs.get("notes") or []],
                }
            )
    return rows[:ROWS]


def _device(attrs: Mapping[str, Any]) -> str:
    threads = attrs.get("threads")
    said = [str(attrs.get("device", "")), f"{threads} thread{'s' if threads != 1 else ''}" if threads else ""]
    return ", ".join(filter(None, said))


def collapse(models: list[Model]) -> list[dict[str, Any]]:
    """The collapse measures as a table, means over seeds."""

    def mean(values: list[float | None]) -> str:
        known = [value for value in values if value is not None]
        return f"{np.mean(known):.3f}" if known else "-"

    rows = []
    for model in models[:ROWS]:
        measured = [run.metrics["collapse"] for run in model.runs]
        cells = [mean([(m[side].get(of) or {}).get("diff_norm") for m in measured]) for side in ("text", "video") for of in _SIDES]
        cells.append(mean([(m["text"].get("agreement_with_foundation") or {}).get("spearman") for m in measured]))
        rows.append({"name": model.name, "cells": cells})
    return rows


_SIDES = ("model", "foundation")


def recipes(layout: Layout, models: list[Model]) -> list[dict[str, Any]]:
    """What each experiment was made by, and in which values it differs from the first; the encoders' recipes as their features say."""
    made, base = [], None
    for model in models[:RECIPES]:
        config = model.runs[0].attrs.get("config")
        if config is None:
            made.append({"name": model.name, "differs": [], "text": "its checkpoint is not here"})
            continue
        values = flat(config)
        base = base or values
        changed = [f"{key}: {json.dumps(values.get(key))}" for key in sorted({*values, *base}) if values.get(key) != base.get(key)]
        made.append({"name": model.name, "differs": [cut(line, 120) for line in changed[:DIFFERENCES]], "text": _pretty(config)})
    used = dict.fromkeys(encoder for model in models for encoder in model.first["features"])
    for encoder in used:
        file = min(layout.features(encoder, "*").parent.glob("*.h5"), default=None)
        if file is not None and len(made) < RECIPES:
            made.append({"name": f"features of {encoder}", "differs": [], "text": _stored(file)})
    return made


def _stored(file: Any) -> str:
    try:
        with open_store(file, stage="features") as store:
            return _pretty(store.attrs["recipe"])
    except StoreError as error:
        return str(error)


def _pretty(value: Any) -> str:
    return cut(json.dumps(value, indent=1, sort_keys=True, default=str), RECIPE)
