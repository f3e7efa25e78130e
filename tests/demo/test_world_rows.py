"""The results page of world-1 holds the tables its rows give, to the digit."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from benchmarks import world_claims, world_rows
from pipeline.config.reading import load
from pipeline.config.schema import Config
from pipeline.evaluation.methods import Method
from pipeline.evaluation.significance import sumr_of_queries
from pipeline.ranking.split import Split

CONFIGS = ("world", "world-noisy")


def rows_of(root: Path, name: str) -> tuple[Config, Path]:
    config = load(str(root / "config" / f"{name}.yaml"))
    return config, root / "benchmarks" / "results" / config.demo.world


def test_the_noisy_variant_is_the_same_benchmark() -> None:
    """What a row may not change, and what every experiment starts from, differs in the names alone."""
    plain, noisy = (load(f"config/{name}.yaml").model_dump() for name in CONFIGS)
    assert (noisy["dataset"].pop("name"), noisy["demo"].pop("world")) == ("world-1-noisy", "world-1-noisy")
    assert (plain["dataset"].pop("name"), plain["demo"].pop("world")) == ("world-1", "world-1")
    trained = ("experiments", "seeds", "ablations", "ablation_seeds", "compare")
    assert {key: value for key, value in noisy.items() if key not in trained} == {
        key: value for key, value in plain.items() if key not in trained
    }


def test_a_method_is_the_same_in_both_variants() -> None:
    """A row of one name has one recipe, so that what noise takes away is not what another setting does."""
    plain, noisy = (load(f"config/{name}.yaml") for name in CONFIGS)
    assert noisy.models
    assert [name for name in noisy.models if name not in plain.models or noisy.experiment(name) != plain.experiment(name)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_the_results_page_is_what_the_rows_say(root: Path, name: str) -> None:
    config, folder = rows_of(root, name)
    page = (root / "benchmarks" / "results" / f"{name}.md").read_text()
    printed = world_rows.tables(config, folder)
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(lines) > 20
    assert [line for line in lines if line not in page] == []


@pytest.mark.parametrize("name", CONFIGS)
def test_ranks_and_measures_of_a_row_agree(root: Path, name: str) -> None:
    config, folder = rows_of(root, name)
    asked = world_rows.asked(config)
    paths = sorted(folder.glob("*.json"))
    assert paths
    for path in paths:
        method, _ = world_rows.read(config, path, asked)
        for run, ranks in zip(method.runs, method.ranks, strict=True):
            assert sumr_of_queries(ranks).mean() == pytest.approx(run["recalls"]["fused"]["SumR"]), path.name
            assert run["gallery"] == {"name": "", "queries": len(asked), "videos": config.demo.test}, path.name


def test_frames_are_held_against_the_clips_they_were_merged_into() -> None:
    """Four frames of two videos; the third clip of the second video is empty, and padding is not counted."""
    frames = torch.eye(4)[None].repeat(2, 1, 1)
    clips = torch.stack([torch.eye(4)[:3], torch.eye(4)[[0, 1, 3]]])
    videos = SimpleNamespace(
        frame_to_clip=torch.tensor([[0, 1, 2, 2], [0, 0, 1, 1]], dtype=torch.uint8),
        sizes=torch.tensor([[1.0, 1.0, 2.0], [2.0, 2.0, 0.0]]),
        frame_count=torch.tensor([3, 2]),
    )
    split = cast(Split, SimpleNamespace(videos=videos))
    assert world_claims.branches_claim(split, frames, clips).startswith("0.800 [")  # of the second frame of the second video it is another
    assert world_claims.branches_claim(split, frames[:, :1], clips) == "-"


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


def test_rows_of_a_noisy_world_stand_beside_the_clean_ones(tmp_path: Path) -> None:
    """Of the seeds that both have, and of one recipe."""

    def kept(world: str, name: str, recipe: str, sumr: dict[int, float]) -> None:
        (tmp_path / world).mkdir(exist_ok=True)
        runs = {str(seed): {"recalls": {"fused": {"SumR": value}}} for seed, value in sumr.items()}
        (tmp_path / world / f"{name}.json").write_text(json.dumps({"recipe": recipe, "runs": runs}))

    kept("world-1", "ral", "a", {1: 330.0, 2: 320.0, 10: 0.0})
    kept("noisy", "ral", "a", {2: 300.0, 1: 320.0})
    kept("world-1", "msc", "a", {1: 330.0})
    kept("noisy", "msc", "b", {1: 300.0})
    kept("noisy", "alone", "a", {1: 300.0})
    methods = [Method(name, [], np.zeros((1, 1), int), [], [], {}) for name in ("ral", "msc", "alone")]
    told = world_rows.beside_clean(methods, tmp_path / "noisy")
    assert told[0] == "|  | seeds | SumR, world-1 | SumR, noisy | lost |"
    assert told[2:] == ["| ral | 2 | 325.0 ± 7.1 | 310.0 ± 14.1 | 15.0 ± 7.1 |"]
    assert world_rows.beside_clean(methods, tmp_path / "world-1") == []


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
