"""The results page of world-1 holds the tables its rows give, to the digit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import world_rows
from pipeline.config.reading import load
from pipeline.evaluation.methods import Method
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
        method, _ = world_rows.read(config, path, asked)
        for run, ranks in zip(method.runs, method.ranks, strict=True):
            assert sumr_of_queries(ranks).mean() == pytest.approx(run["recalls"]["fused"]["SumR"]), path.name
            assert run["gallery"] == {"name": "", "queries": len(asked), "videos": config.demo.test}, path.name


def test_what_a_part_adds_is_the_difference_of_its_seeds(root: Path) -> None:
    config = load(str(root / "config" / "world.yaml"))

    def method(name: str, ranks: dict[int, list[int]]) -> Method:
        runs = [{"seed": seed, "recalls": {"fused": {"SumR": float(sumr_of_queries(np.array(of)).mean())}}} for seed, of in ranks.items()]
        queries = [f"{i}" for i in range(40)]
        return Method(name, runs, np.array(list(ranks.values())), queries, queries, {})

    plain, better = {1: [20] * 40, 2: [200] * 40}, {2: [1] * 40, 1: [1] * 40, 3: [5] * 40}  # of 400, 400 and 300: 300 and 400 more
    pairs = [("better", "plain"), ("same", "plain"), ("alone", "plain")]
    methods = [method("plain", plain), method("better", better), method("same", plain), method("alone", {9: [1] * 40})]
    told = world_rows.steps(methods, pairs)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in told[2:]]
    assert cells == [["better", "plain", "2", "350.0 ± 70.7", "< 0.001"], ["same", "plain", "2", "0.0 ± 0.0", "1.000"]]
    one = [Method(name, [{"seed": 1}], np.array([[rank]]), ["0#0"], ["0"], {}) for name, rank in (("first", 1), ("tenth", 10))]
    assert world_rows.steps(one, [("first", "tenth")])[2] == "| first | tenth | 1 | 200.0 |  |"  # one video: no test can be made
    names = ["msc", "gmmformer_v2", "ms_sl", "ral", "ral_ms_sl", "ral_msc"]
    assert world_rows.plugged(config, names) == [("ral", "gmmformer_v2"), ("ral_ms_sl", "ms_sl"), ("ral_msc", "msc")]


@pytest.mark.slow
def test_each_part_of_the_ablation_is_set_over_the_one_before(root: Path) -> None:
    config, folder = load(str(root / "config" / "world.yaml")), root / "benchmarks" / "results" / "world-1"
    printed = world_rows.tables(config, folder)
    ablation = printed[printed.index("## The paper's ablation") :]
    head = "|  | over | seeds | SumR | p |\n| --- | --- | --- | --- | --- |\n"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in ablation.split(head)[1].split("\n\n")[0].splitlines()]
    assert [row[:2] for row in rows] == [["tcpl", "baseline"], ["naive-cbva", "tcpl"], ["op-tome", "naive-cbva"], ["msc", "op-tome"]]
    runs = {path.stem: json.loads(path.read_text())["runs"] for path in folder.glob("*.json")}
    for new, old, _, said, _ in rows:
        sumr = [[runs[name][seed]["recalls"]["fused"]["SumR"] for seed in runs[new].keys() & runs[old].keys()] for name in (new, old)]
        assert float(said.split()[0]) == pytest.approx(np.mean(sumr[0]) - np.mean(sumr[1]), abs=0.051)
