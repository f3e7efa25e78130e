"""The comparison of methods: the test, the correction, and what may stand in one table."""

from __future__ import annotations

import copy
import json
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.core.errors import StoreMissing
from pipeline.core.store import open_store
from pipeline.evaluation import compare, stage
from pipeline.evaluation.significance import holm, randomisation, sumr_of_queries
from pipeline.jobs import recipes
from pipeline.ranking.metrics import recalls

from .conftest import World


def test_sumr_is_the_mean_of_what_queries_add() -> None:
    ranks = np.random.default_rng(0).integers(1, 300, 200)
    assert sumr_of_queries(ranks).mean() == pytest.approx(recalls(ranks)["SumR"])


def test_the_p_value_counts_all_signs_of_all_videos() -> None:
    """Seven videos of two queries each: literally every one of 2^7 ways to exchange the two models video by video."""
    random = np.random.default_rng(3)
    ours, theirs = random.normal(0.5, 1, 14), random.normal(0, 1, 14)
    video = [f"v{i // 2}" for i in range(14)]
    differences = [sum(ours[i] - theirs[i] for i in range(14) if video[i] == name) for name in sorted(set(video))]
    reached = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in product((1, -1), repeat=7)]
    expected = np.mean([value >= abs(sum(differences)) - 1e-9 for value in reached])
    assert randomisation(ours, theirs, video) == pytest.approx(expected)
    assert randomisation(theirs, ours, video) == pytest.approx(expected)


def test_chance_is_not_significant_and_queries_of_one_video_are_one_witness() -> None:
    """Under the null 5 % of the p-values are below .05, also where a video's queries go together; by query alone it would be far more."""
    random = np.random.default_rng(1)
    video = np.repeat(np.arange(60), 10)
    found, naive = [], []
    for _ in range(100):
        differences = random.normal(size=60)[video] + 0.1 * random.normal(size=600)
        found.append(randomisation(differences, np.zeros(600), [str(v) for v in video], draws=199))
        naive.append(randomisation(differences, np.zeros(600), [str(i) for i in range(600)], draws=99))
    assert np.mean(np.array(found) < 0.05) < 0.12
    assert np.mean(np.array(naive) < 0.05) > 0.4


def test_equal_models_and_a_single_video() -> None:
    assert randomisation(np.ones(4), np.ones(4), list("abcd")) == 1.0
    assert np.isnan(randomisation(np.ones(4), np.zeros(4), list("aaaa")))


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert np.isnan(holm([float("nan"), 0.02])[0])
    assert holm([float("nan"), 0.02])[1] == 0.02


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two methods, two seeds. Do not change it: copy it."""
    made = World(tmp_path_factory.mktemp("finished"))
    for experiment, seed in made.config.group("compare"):
        made.train(experiment, seed)
        stage.run(made.config, made.layout, experiment, seed, recipes.evaluation(made.config, experiment))
    return made


@pytest.fixture
def evaluated(finished: World, tmp_path: Path) -> World:
    copied = copy.copy(finished)
    shutil.copytree(finished.config.results, tmp_path / "copied")
    copied.config = finished.config.model_copy(update={"results": str(tmp_path / "copied")})
    copied.layout = copied.config.layout
    return copied


def test_the_table_of_methods(evaluated: World) -> None:
    text = compare.run_comparison(evaluated.config, evaluated.layout)
    assert text + "\n" == (evaluated.layout.root / "compare.md").read_text()
    rows = pd.read_csv(evaluated.layout.root / "compare.csv")
    fused = rows[rows["branch"] == "fused"].set_index("method")
    assert set(rows["branch"]) == {"fused", "clip", "frame"}
    for name in ("main", "second"):
        runs = [json.loads(evaluated.layout.metrics(name, seed).read_text())["recalls"]["fused"]["SumR"] for seed in (1, 2)]
        assert fused["SumR"][name] == pytest.approx(np.mean(runs))
        assert fused["SumR std"][name] == pytest.approx(np.std(runs, ddof=1))
    best, other = fused["SumR"].idxmax(), fused["SumR"].idxmin()
    ranks = {}
    for name in (best, other):
        stores = []
        for seed in (1, 2):
            with open_store(evaluated.layout.evaluation(name, seed)) as store:
                stores.append(store.table("queries"))
        ranks[name] = sumr_of_queries(np.stack([table["rank_fused"] for table in stores])).mean(0)
    assert fused["p"][other] == pytest.approx(randomisation(ranks[best], ranks[other], stores[0]["video_id"].tolist()))
    assert np.isnan(fused["p"][best])
    for column in ("variant", "split", "gallery", "features", "words"):
        assert rows[column].notna().all()
    assert fused["words"][best] == "clip, 8"
    assert fused["gallery"][best] == "whole, 11"
    content = json.loads((evaluated.layout.root / "compare.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert [table["best"] for table in content["tables"]] == [best]
    assert "published" not in text
    assert "Not evaluated" not in text


@pytest.mark.parametrize(
    "change", [{"features": ["other"]}, {"text": "other"}, {"split": "val"}, {"gallery": {"name": "half", "videos": 6, "queries": 33}}]
)
def test_what_cannot_be_compared_stands_in_another_table(evaluated: World, change: dict[str, Any]) -> None:
    for seed in (1, 2):
        path = evaluated.layout.metrics("second", seed)
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    text = compare.run_comparison(evaluated.config, evaluated.layout)
    assert "## Table 2 of 2: not to be compared with the others" in text
    rows = pd.read_csv(evaluated.layout.root / "compare.csv")
    assert rows.groupby("method")["table"].nunique().eq(1).all()
    assert rows["table"].nunique() == 2
    assert rows["p"].isna().all()


def test_published_rows_name_source_and_protocol_and_need_the_same_gallery(evaluated: World) -> None:
    for name, seed in evaluated.config.group("compare"):
        path = evaluated.layout.metrics(name, seed)
        metrics = json.loads(path.read_text())
        metrics["gallery"] |= {"name": "tvr", "videos": 2179}
        path.write_text(json.dumps(metrics))
    bundle = evaluated.config.model_copy(update={"dataset": evaluated.config.dataset.model_copy(update={"kind": "bundle"})})
    text = compare.run_comparison(bundle, evaluated.layout)
    line = next(line for line in text.splitlines() if line.startswith("| MS-SL  "))
    assert all(part in line for part in ("CLIP-L/14", "2,179", "251.0", "MSC Table 5", "official val release"))


def test_nothing_evaluated_says_what_to_run(world: World) -> None:
    with pytest.raises(StoreMissing, match="no method has been evaluated") as error:
        compare.run_comparison(world.config, world.layout)
    assert "compare" in error.value.fix
