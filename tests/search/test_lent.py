"""Search with a model trained elsewhere: its settings come with it, its clips are asked for by a command that makes them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from pipeline.cli.main import app
from pipeline.config import reading
from pipeline.config.schema import Config
from pipeline.core.errors import BundleError, ConfigError, StoreMissing
from pipeline.interchange.checkpoints import import_checkpoint
from pipeline.models.checkpoint import load_model
from pipeline.search.lent import lent
from pipeline.search.searcher import Searcher
from tests.evaluation.conftest import World, typeable


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A run whose checkpoint was moved away, as if it had been trained elsewhere."""
    made = typeable(tmp_path)
    made.train("main", 1, text_dim=64)
    return made


def written(world: World, folder: Path, **over: object) -> Config:
    """The world's configuration as a file."""
    values = world.config.model_dump(exclude_unset=True, mode="json") | over
    (folder / "here.yaml").write_text(yaml.safe_dump(values))
    return reading.load(str(folder / "here.yaml"))


def away(world: World, folder: Path) -> Path:
    file = folder / "from-afar.h5"
    shutil.move(world.layout.checkpoint("main", 1), file)
    return file


def test_it_answers_as_it_does_where_it_was_trained(world: World, tmp_path: Path) -> None:
    there = Searcher(world.config, world.layout, "main", 1).search("text 1", 5)
    file = away(world, tmp_path)
    # The same experiment is another one here: the file's own settings count.
    model = lent(written(world, tmp_path, experiments={"main": {"evaluation": {"clip_weight": 1.0, "frame_weight": 0.0}}}), file)
    assert model.search("text 1", 5) == there
    assert (model.name, model.trained) == ("main, seed 1, from from-afar.h5", None)
    assert not (world.layout.root / "runs" / "main" / "seed1" / "index.h5").exists() or file.exists()


def test_clips_that_are_not_made_are_named_with_the_command_that_makes_them(world: World, tmp_path: Path) -> None:
    file, config = away(world, tmp_path), written(world, tmp_path)
    next((world.layout.root / "clips").rglob("*.h5")).unlink()
    with pytest.raises(StoreMissing, match=r"that are not made here.*\n.*\n.*clips_of_all --configfile") as refused:
        lent(config, file)
    added = next((world.layout.root / "lent").glob("*.yaml"))
    assert str(added) in str(refused.value)
    both = reading.load(str(tmp_path / "here.yaml"), str(added))
    assert both.experiment("main") == load_model(file)[1]


def test_encoders_that_are_not_configured_are_named(world: World, tmp_path: Path) -> None:
    file = away(world, tmp_path)
    values = world.config.model_dump(exclude_unset=True, mode="json")
    encoders = {"other": values["encoders"]["clip"]}
    with pytest.raises(ConfigError, match="clip"):
        lent(written(world, tmp_path, encoders=encoders, features=["other"], text="other"), file)


def test_the_command_takes_a_file_and_no_second_model(world: World, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    file = away(world, tmp_path)
    written(world, tmp_path)
    options = ["--config", str(tmp_path / "here.yaml"), "--checkpoint", str(file)]
    assert CliRunner().invoke(app, ["search", "text 1", *options, "--zero-shot"]).exit_code == 2


def test_a_checkpoint_of_ours_is_imported_or_what_differs_is_listed(world: World, tmp_path: Path) -> None:
    there = Searcher(world.config, world.layout, "main", 1).search("text 1", 5)
    file = away(world, tmp_path)
    import_checkpoint(world.config, world.layout, "second", 2, file)
    model, settings, attrs = load_model(world.layout.checkpoint("second", 2), experiment="second", seed=2)
    assert settings == world.config.experiment("second")
    assert (attrs["imported"], attrs["epoch"]) == ("from-afar.h5", 3)
    original = load_model(file)[0].state_dict()
    assert all((value == original[name]).all() for name, value in model.state_dict().items())
    import_checkpoint(world.config, world.layout, "main", 1, file)
    assert Searcher(world.config, world.layout, "main", 1).search("text 1", 5) == there
    other = written(world, tmp_path, model={**world.config.model_dump(exclude_unset=True)["model"], "hidden": 32})
    with pytest.raises(BundleError, match=r"model\.hidden is 32 here, 16 in the checkpoint"):
        import_checkpoint(other, world.layout, "main", 2, file)
    assert not world.layout.checkpoint("main", 2).exists()
