"""A tiny dataset with real small videos, evaluated: two experiments, one of them with two seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.core.source import Source
from pipeline.datasets import table
from pipeline.evaluation import stage as evaluation
from pipeline.jobs import recipes
from pipeline.report import stage
from tests.datasets.miniature import encode
from tests.evaluation.conftest import World

HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\"> & $x_1$ {{ 7 * 6 }}"


def evaluated(world: World, *runs: tuple[str, int]) -> World:
    """The world with these runs trained, as far as evaluation sees, and evaluated."""
    for experiment, seed in runs:
        history = [{"epoch": e, "loss": 3.0 / e, "SumR": 50.0 + e} for e in (1, 2, 3)]
        world.train(experiment, seed, history=history, epochs_run=3, notes=[HOSTILE], device="cpu", threads=1)
        evaluation.run(world.config, world.layout, experiment, seed, recipes.evaluation(world.config, experiment))
    return world


def sources(world: World, folder: Path) -> dict[str, Source]:
    """A short real file for every test video but the first, which is gone."""
    made = {}
    for i, video in enumerate(world.ids):
        path = folder / f"{i}.mp4"
        if i:
            encode(path, 4, i)
        made[video] = Source(video, (str(path),), f"content {i}", None)
    return made


def reworded(world: World, text: str, *, moments: bool = True) -> None:
    """Every query says `text`; without `moments` none has one."""
    known = table.load(world.layout.annotations)
    spans = known.moments if moments else {query: spans[:0] for query, spans in known.moments.items()}
    table.save(world.layout.annotations, replace(known, queries=known.queries.assign(query=text, group=text), moments=spans))


def report(world: World, files: Mapping[str, Source] | None = None) -> str:
    """The page."""
    stage.run(world.config, world.layout, world.config.group("table"), files or {})
    return world.layout.report.read_text()


@pytest.fixture
def made(tmp_path: Path) -> World:
    world = World(tmp_path)
    reworded(world, HOSTILE)
    return evaluated(world, ("main", 1), ("main", 2), ("second", 1))
