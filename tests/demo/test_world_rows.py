"""The results page of world-1 holds the tables its rows give, to the digit."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import world_rows
from pipeline.config.reading import load
from pipeline.evaluation.significance import sumr_of_queries


@pytest.mark.slow
def test_the_results_page_is_what_the_rows_say(root: Path) -> None:
    config, page = load(str(root / "config" / "world.yaml")), (root / "benchmarks" / "results" / "world.md").read_text()
    printed = world_rows.tables(config, root / "benchmarks" / "results" / "world-1")
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(lines) > 20
    assert [line for line in lines if line not in page] == []


def test_ranks_and_measures_of_a_row_agree(root: Path) -> None:
    config = load(str(root / "config" / "world.yaml"))
    asked = world_rows.asked(config)
    paths = sorted((root / "benchmarks" / "results" / "world-1").glob("*.json"))
    assert paths
    for path in paths:
        method, _ = world_rows.read(path, asked)
        for run, ranks in zip(method.runs, method.ranks, strict=True):
            assert sumr_of_queries(ranks).mean() == pytest.approx(run["recalls"]["fused"]["SumR"]), path.name
            assert run["gallery"] == {"name": "", "queries": len(asked), "videos": config.demo.test}, path.name
