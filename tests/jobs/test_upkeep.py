"""The published configuration, and old answers that say so; the rest of the upkeep is proved on whole runs (tests/workflow)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pipeline.config.reading import load, read
from pipeline.core.errors import ConfigError
from pipeline.jobs.dag import Dag
from pipeline.jobs.upkeep import publish_config


@pytest.fixture
def config_file(tmp_path: Path, root: Path) -> Path:
    values = yaml.safe_load((root / "config.yaml").read_text())
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**values, "results": str(tmp_path / "results")}))
    return path


@pytest.mark.parametrize("damage", [lambda text: text.replace("7", "8"), lambda text: text[: len(text) // 2]])
def test_a_changed_published_configuration_is_refused_and_written_anew(config_file: Path, damage) -> None:
    config, values = load(config_file), read(config_file)
    path = publish_config(config, values)
    whole = path.read_text()
    path.write_text(damage(whole))
    assert path.read_text() != whole
    with pytest.raises(ConfigError):
        load(path)
    assert publish_config(config, values) == path
    assert json.loads(path.read_text()) == values
    load(path)


def test_the_order_of_experiments_is_kept_and_makes_no_job_another(config_file: Path) -> None:
    values = yaml.safe_load(config_file.read_text())
    values["experiments"] = {"second": {}, "first": {"training": {"epochs": 3}}}
    turned = {**values, "experiments": dict(reversed(values["experiments"].items()))}
    traces = []
    for given in (values, turned):
        config_file.write_text(yaml.safe_dump(given, sort_keys=False))
        config = load(publish_config(load(config_file), read(config_file)))
        assert list(config.experiments) == list(given["experiments"])
        traces.append(Dag(config, config.layout).trace("table", target="table"))
    assert traces[0] == traces[1]


def test_a_key_given_twice_is_refused_with_both_lines(config_file: Path) -> None:
    lines = config_file.read_text().splitlines()
    config_file.write_text("\n".join([*lines, "seeds: [1]"]))
    with pytest.raises(ConfigError, match=r"`seeds` is given twice") as error:
        load(config_file)
    assert f"line {len(lines) + 1}" in error.value.what


def test_joined_encoders_of_different_grids_are_refused(config_file: Path) -> None:
    values = yaml.safe_load(config_file.read_text())
    first, second = values["features"][:2]
    values["encoders"][first]["sampling"] = {"every": 0.5}
    config_file.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=rf"sampling\.every differ: .*{first} 0\.5") as error:
        load(config_file)
    assert second in error.value.what


@pytest.mark.parametrize("results", ["a{b}", "a\nb"])
def test_results_that_cannot_be_are_refused(config_file: Path, results: str) -> None:
    values = yaml.safe_load(config_file.read_text())
    config_file.write_text(yaml.safe_dump({**values, "results": results}))
    with pytest.raises(ConfigError, match="results"):
        load(config_file)


def test_a_home_folder_is_spelled_out(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/reader")
    values = yaml.safe_load(config_file.read_text())
    config_file.write_text(yaml.safe_dump({**values, "results": "~/results"}))
    assert load(config_file).layout.root == Path("/home/reader/results") / values["dataset"]["name"]
