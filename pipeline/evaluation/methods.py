"""The evaluated runs of every method, and what two methods must share to be compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.config.schema import Config
from pipeline.core.layout import Layout
from pipeline.core.store import open_store

Key = tuple[str, ...]


@dataclass(frozen=True)
class Method:
    """One method's runs: the measures of each seed, the ranks [seeds, Q] of the fused score, the video of each query, and its costs."""

    name: str
    runs: list[dict[str, Any]]
    ranks: np.ndarray
    queries: list[str]
    video: list[str]
    cost: dict[str, Any]

    @property
    def key(self) -> Key:
        """What another method must share to stand beside it."""
        run = self.runs[0]
        asked = hashlib.sha256("\n".join(self.queries).encode()).hexdigest()[:12]
        return (run["split"], run["gallery"]["name"], str(run["gallery"]["videos"]), "+".join(run["features"]), run["text"], asked)

    def mean(self, column: str, branch: str = "fused") -> float:
        """A recall, averaged over seeds."""
        return float(np.mean([run["recalls"][branch][column] for run in self.runs]))


@dataclass(frozen=True)
class Comparison:
    """The methods that can be compared with one another, and the rows of their table."""

    key: Key
    methods: list[Method]
    best: str
    rows: list[dict[str, Any]]

    @property
    def videos(self) -> int:
        return int(self.methods[0].runs[0]["gallery"]["videos"])


def read(config: Config, layout: Layout) -> tuple[list[Method], list[str]]:
    """Every method with at least one evaluated seed, and the runs that are not."""
    seeds: dict[str, list[int]] = {}
    absent = []
    for name, seed in config.group("compare"):
        if layout.metrics(name, seed).exists():
            seeds.setdefault(name, []).append(seed)
        else:
            absent.append(f"{name} seed {seed}")
    return [_method(layout, name, of) for name, of in seeds.items()], absent


def _method(layout: Layout, name: str, seeds: Sequence[int]) -> Method:
    runs = [json.loads(layout.metrics(name, seed).read_text()) for seed in seeds]
    tables = []
    for seed in seeds:
        with open_store(layout.evaluation(name, seed), stage="evaluation") as store:
            tables.append(store.table("queries"))
    cost = json.loads(layout.cost(name).read_text()) if layout.cost(name).exists() else {}
    ranks = np.stack([table["rank_fused"].to_numpy() for table in tables])
    return Method(name, runs, ranks, list(tables[0]["query_id"]), list(tables[0]["video_id"]), cost)
