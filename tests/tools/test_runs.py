"""`prvr runs` on a tiny run that is trained again with other settings."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.core import kept
from pipeline.core.errors import ConfigError
from pipeline.evaluation import stage
from pipeline.jobs import recipes
from pipeline.tools import runs
from tests.evaluation.conftest import World, typeable


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, str, str]:
    """A searchable run, and the one it took the place of: evaluated both; their hashes, the present one first."""
    tmp_path = tmp_path_factory.mktemp("twice")
    world = typeable(tmp_path)
    hashes = []
    for rate, weights in ((1e-3, 1), (2e-3, 2)):
        chosen = world.config.experiment("main").model_dump(exclude={"evaluation"})
        made_by = {"experiment": {**chosen, "training": {**chosen["training"], "learning_rate": rate}}, "seed": 1, "data": "d"}
        kept.keep(world.layout, "main", 1, "new", 5)
        world.config = world.config.model_copy(update={"training": world.config.training.model_copy(update={"learning_rate": rate})})
        made_by["experiment"] = world.config.experiment("main").model_dump(exclude={"evaluation"})
        world.train("main", 1, text_dim=64, weights=weights, recipe=made_by)
        stage.run(world.config, world.layout, "main", 1, recipes.evaluation(world.config, "main"))
        hashes.append(kept.hash_of(world.layout, "main", 1))
    values = {**world.config.model_dump(mode="json", exclude_unset=True), "training": {"learning_rate": 2e-3}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    return world, hashes[1], hashes[0]


def call(folder: Path, *words: str, answer: str | None = None) -> str:
    done = CliRunner().invoke(app, [*words, "--config", str(folder / "config.yaml")], input=answer)
    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
    return done.stdout


def test_runs_measured_on_other_queries_are_not_tested(twice: tuple[World, str, str]) -> None:
    world, present, former = twice
    folder = world.layout.kept("main", 1, former)
    found = [runs.find(world.layout, run) for run in (former, present)]
    assert "p = " in runs.compare(*found)
    written = (folder / "metrics.json").read_text()
    metrics = json.loads(written)
    metrics["gallery"]["videos"] += 1
    (folder / "metrics.json").write_text(json.dumps(metrics))
    found[0].__dict__.pop("metrics")
    assert "no test: they were not measured on the same queries and videos" in runs.compare(*found)
    (folder / "metrics.json").unlink()
    found[0].__dict__.pop("metrics")
    assert "no measures of A" in runs.compare(*found)
    (folder / "metrics.json").write_text(written)


def test_searched_by_its_own_settings(twice: tuple[World, str, str]) -> None:
    """Whatever the configuration says today, of another kind of model even."""
    world, _, former = twice
    run = runs.find(world.layout, former)
    today = world.config.model_copy(update={"experiments": {"main": {"model": {"hidden": 32}}, "next": {}}})
    chosen = runs.as_configured(today, run).experiment("main")
    assert chosen.training.learning_rate == 1e-3
    assert chosen.model == world.config.experiment("main").model


def test_listed_compared_searched_and_removed(twice: tuple[World, str, str]) -> None:
    world, present, former = twice
    tmp_path = world.layout.root.parent
    measured = {
        run: json.loads((folder / "metrics.json").read_text())["recalls"]["fused"]["SumR"]
        for run, folder in ((present, world.layout.run("main", 1)), (former, world.layout.kept("main", 1, former)))
    }
    lines = call(tmp_path, "runs").splitlines()
    assert re.search(rf"main +1 +{present} +present +{measured[present]:.1f} test", lines[1])
    assert re.search(rf"main +1 +{former} +kept +{measured[former]:.1f} test .*training.learning_rate: 0.001 -> 0.002", lines[2])
    assert lines[-1].startswith("1 kept, 0.")
    listed = json.loads(call(tmp_path, "runs", "--json"))
    assert [entry["run"] for entry in listed] == [present, former]
    assert listed[1]["bytes"] == sum(path.stat().st_size for path in world.layout.kept("main", 1, former).iterdir())

    shown = call(tmp_path, "runs", "compare", former[:6], present)
    assert "training.learning_rate: 0.001 -> 0.002" in shown
    assert f"SumR    {measured[former]:8.2f}{measured[present]:8.2f}" in shown
    assert re.search(r"SumR of 33 queries, paired by video: p = [01]\.\d{4}", shown)

    answers = [json.loads(call(tmp_path, "search", "text 1", "--json", *more)) for more in ((), ("--run", former), ("--run", present))]
    scores = [[hit["score"] for hit in answer["hits"]] for answer in answers]
    assert scores[0] == scores[2] != scores[1]

    with pytest.raises(ConfigError, match="is the present run"):
        CliRunner().invoke(app, ["runs", "remove", present, "--config", str(tmp_path / "config.yaml")], catch_exceptions=False)
    assert "nothing is deleted" in call(tmp_path, "runs", "remove", former, answer="n\n")
    assert world.layout.kept("main", 1, former).exists()
    assert "1 deleted" in call(tmp_path, "runs", "remove", "--all", answer="y\n")
    assert not list((world.layout.root / "kept").rglob("*.h5"))
    assert world.layout.checkpoint("main", 1).exists()
    with pytest.raises(ConfigError, match="there is no run"):
        runs.find(world.layout, former)
