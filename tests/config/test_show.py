"""`prvr config show`: what it prints is the same configuration, and where each value comes from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.config import presets
from pipeline.config.reading import load
from pipeline.config.show import show
from pipeline.core.errors import ConfigError

ROOT = Path(__file__).parents[2]
CONFIGS = [ROOT / "config.yaml", *sorted((ROOT / "config").glob("*.yaml"))]


def origins(text: str) -> dict[str, str]:
    """dotted key -> where from, of what stands below `experiments: <name>:`."""
    found, path = {}, []
    for line in text.split("experiments:\n")[1].splitlines():
        depth, key = (len(line) - len(line.lstrip())) // 2, line.strip().split(":")[0]
        path = [*path[: depth - 1], key]
        if "# " in line:
            found[".".join(path)] = line.rpartition("# ")[2]
    return found


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_loads_as_the_same_experiments(path: Path, tmp_path: Path) -> None:
    config = load(path)
    (tmp_path / "shown.yaml").write_text(show(config))
    again = load(tmp_path / "shown.yaml")
    assert list(again.experiments) == list(config.experiments)
    for name in config.experiments:
        assert again.experiment(name) == config.experiment(name)
    for key in ("results", "dataset", "video", "encoders", "seeds", "runtime"):
        assert getattr(again, key) == getattr(config, key), key


@pytest.mark.parametrize("method", presets.names())
def test_of_every_method(method: str, tmp_path: Path) -> None:
    values = yaml.safe_load((ROOT / "config.yaml").read_text())
    values["experiments"] = {"main": {"preset": method}}
    (tmp_path / "given.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "shown.yaml").write_text(show(load(tmp_path / "given.yaml")))
    assert load(tmp_path / "shown.yaml").experiment("main") == load(tmp_path / "given.yaml").experiment("main")


def test_where_values_come_from(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    encoder = "{clip: {kind: open_clip}}"
    path.write_text(
        f"encoders: {encoder}\nfeatures: [clip]\ntext: clip\nvariant: paper\nclips: {{tau: 0.75}}\ntraining: {{epochs: 7}}\n"
        "experiments:\n  main: {training: {batch_videos: 3}}\n  other: {preset: gmmformer, training: {epochs: 9}}\n"
    )
    text = show(load(path), "main")
    found = origins(text)
    assert found["main.training.batch_videos"] == f"{path}, main"
    assert found["main.training.epochs"] == found["main.clips.tau"] == str(path)
    assert found["main.clips.similarity"] == "variant paper"
    assert found["main.model.hidden"] == "default"
    other = origins(show(load(path), "other"))
    assert other["other.training.epochs"] == f"{path}, other"
    assert other["other.model.kind"] == "preset gmmformer"
    assert re.search(r"^    model:$", show(load(path), "other"), flags=re.M)


def test_the_command_and_a_name_that_is_not_there(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["config", "show", "--config", str(ROOT / "config.yaml"), "--experiment", "no-motion"])
    assert done.exit_code == 0
    assert yaml.safe_load(done.stdout)["experiments"]["no-motion"]["features"] == ["demo-clip-b16", "demo-clip-l14"]
    with pytest.raises(ConfigError, match=r"no experiment 'no-moton'.*\n.*\n.*did you mean no-motion\?"):
        show(load(ROOT / "config.yaml"), "no-moton")
