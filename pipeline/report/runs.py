"""The evaluated runs of a dataset, as the report reads them: models with their seeds, in groups that answered the same queries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from pipeline.core.layout import Layout
from pipeline.core.store import Reader, open_store

ZERO_SHOT = "zero-shot"


@dataclass(frozen=True)
class Run:
    """One trained and evaluated model: its measures, the course of its training, and what its checkpoint says of itself."""

    seed: int
    metrics: dict[str, Any]
    history: pd.DataFrame | None
    attrs: dict[str, Any]


@dataclass(frozen=True)
class Model:
    """An experiment's runs. Shapes: `ranks` [seeds, Q], of the fused score, 1 = best."""

    name: str
    runs: list[Run]
    ranks: np.ndarray

    @property
    def first(self) -> dict[str, Any]:
        """The measures of its first seed."""
        return self.runs[0].metrics

    def recalls(self, column: str, branch: str = "fused") -> list[float]:
        """A recall of every seed, percent."""
        return [run.metrics["recalls"][branch][column] for run in self.runs]

    def mean(self, column: str) -> float:
        """A recall, averaged over seeds."""
        return float(np.mean(self.recalls(column)))


@dataclass(frozen=True)
class Bench:
    """Models that ranked the same queries against the same videos, best first, and zero-shot's ranks where a model has them.

    Shapes: `queries`, `videos_of`, `groups` [Q] ids, `ratio` [Q] moment-to-video ratio, NaN unknown; `zero_shot` [1, Q] or None.
    """

    models: list[Model]
    queries: list[str]
    videos_of: list[str]
    groups: list[str]
    ratio: np.ndarray
    zero_shot: np.ndarray | None

    @property
    def best(self) -> Model:
        return self.models[0]

    @property
    def split(self) -> str:
        return str(self.best.first["split"])

    @property
    def gallery(self) -> str:
        """The evaluation set's name, where there are several."""
        return str(self.best.first["gallery"]["name"] or "")

    @property
    def videos(self) -> int:
        return int(self.best.first["gallery"]["videos"])

    @property
    def zero_shot_recalls(self) -> dict[str, float] | None:
        """Zero-shot's recalls, of the first model that has them."""
        return next((m.first["recalls"]["zero_shot"] for m in self.models if "zero_shot" in m.first["recalls"]), None)


def evaluated(layout: Layout, runs: Iterable[tuple[str, int]]) -> tuple[dict[str, list[int]], list[str]]:
    """Of these runs: experiment -> its evaluated seeds; and those that are not evaluated, in words."""
    found: dict[str, list[int]] = {}
    absent = []
    for name, seed in dict.fromkeys(runs):
        if layout.metrics(name, seed).exists() and layout.evaluation(name, seed).exists():
            found.setdefault(name, []).append(seed)
        else:
            absent.append(f"{name} seed {seed}")
    return found, absent


def benches(layout: Layout, found: dict[str, list[int]]) -> list[Bench]:
    """The models in groups that can be compared, the largest group first. Errors: StoreError."""
    groups: dict[tuple[str, ...], Bench] = {}
    for name, seeds in found.items():
        bench, asked = _bench(layout, name, seeds)
        run = bench.best.first
        key = (run["split"], str(run["gallery"]["name"]), str(run["gallery"]["videos"]), asked)
        known = groups.get(key)
        if known is None:
            groups[key] = bench
        else:
            zero_shot = bench.zero_shot if known.zero_shot is None else known.zero_shot
            groups[key] = replace(known, models=[*known.models, *bench.models], zero_shot=zero_shot)
    ordered = [replace(b, models=sorted(b.models, key=lambda m: (-m.mean("SumR"), m.name))) for b in groups.values()]
    return sorted(ordered, key=lambda bench: -len(bench.models))


def _bench(layout: Layout, name: str, seeds: Sequence[int]) -> tuple[Bench, str]:
    """A model on its own, and a digest of what it was asked. Only ranks are read of all seeds but the first."""
    ranks, first = [], None
    for seed in seeds:
        with open_store(layout.evaluation(name, seed), stage="evaluation") as store:
            ranks.append(store.array("queries/rank_fused"))
            first = first or _asked(store)
    assert first is not None
    runs = [_run(layout, name, seed) for seed in seeds]
    asked = hashlib.sha256("\n".join(first["query_id"]).encode()).hexdigest()
    bench = Bench(
        [Model(name, runs, np.stack(ranks))], first["query_id"], first["video_id"], first["group"], first["ratio"], first["zero_shot"]
    )
    return bench, asked


def _asked(store: Reader) -> dict[str, Any]:
    columns = {name: [str(value) for value in store.array(f"queries/{name}")] for name in ("query_id", "video_id", "group")}
    zero_shot = store.array("queries/rank_zero_shot")[None] if "queries/rank_zero_shot" in store else None
    return {**columns, "ratio": store.array("queries/ratio"), "zero_shot": zero_shot}


def _run(layout: Layout, name: str, seed: int) -> Run:
    """A run without its weights; one whose checkpoint is gone has its measures alone."""
    metrics = json.loads(layout.metrics(name, seed).read_text())
    path = layout.checkpoint(name, seed)
    if not path.exists():
        return Run(seed, metrics, None, {})
    with open_store(path, stage="checkpoint") as store:
        history = store.table("history") if "history" in store else None
        return Run(seed, metrics, history, store.attrs)
