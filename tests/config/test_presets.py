"""Presets: every one is a whole experiment, what stands beside it wins, and nothing of the keys above leaks into its method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config import presets
from pipeline.config.base import merge
from pipeline.config.reading import load, validate
from pipeline.config.schema import Config
from pipeline.core.errors import ConfigError
from pipeline.jobs import recipes

ALL = [(method, dataset) for method in presets.names() for dataset in presets.datasets(method)]


def config(root: Path, **values: Any) -> Config:
    """The demo's configuration with some keys of one's own."""
    return load(root / "config.yaml", overrides=values)


@pytest.mark.parametrize(("method", "dataset"), ALL)
def test_every_preset_is_a_whole_experiment(root: Path, method: str, dataset: str) -> None:
    made = config(root, experiments={"one": {"preset": f"{method}/{dataset}"}}).experiment("one")
    wanted = presets.values(f"{method}/{dataset}", {}, where="here")
    given = made.model.model_dump(exclude_unset=True)
    assert merge(given, wanted["model"]) == given
    for branch in ("tcpl", "cbva"):  # MSC's own are on unless they are switched off
        assert branch in wanted["objectives"], "a preset says of both whether they are on"
    if dataset != presets.SMALL:
        assert {"learning_rate", "epochs", "batch_videos", "patience"} <= wanted["training"].keys()
    assert dataset in presets.BENCHMARKS or not {"epochs", "batch_videos", "learning_rate"} & wanted.get("training", {}).keys()


@pytest.mark.parametrize("dataset", presets.BENCHMARKS)
def test_mscs_is_that_of_the_shipped_configurations(root: Path, dataset: str) -> None:
    shipped = load(root / "config" / f"{dataset}.yaml")
    under = load(root / "config" / f"{dataset}.yaml", overrides={"experiments": {"main": {"preset": "msc"}}})
    assert under.experiment("main") == shipped.experiment("main")
    assert recipes.training(under, "main", 1) == recipes.training(shipped, "main", 1), "written out or named, it is the same training"


def test_keys_beside_a_preset_win(root: Path) -> None:
    over = {"preset": "msc", "model": {"hidden": 32}, "objectives": {"nce": {"clip": 0.5}}, "evaluation": {"clip_weight": 0.1}}
    made = config(root, experiments={"one": over}).experiment("one")
    assert (made.model.hidden, made.objectives.nce.clip, made.objectives.nce.frame) == (32, 0.5, 0.04)
    assert (made.evaluation.clip_weight, made.evaluation.frame_weight) == (0.1, 0.6)


def test_keys_above_a_preset_reach_no_model_or_objective(root: Path) -> None:
    above = {"objectives": {"vcp": {"weight": 1.0}}, "model": {"dropout": 0.7}, "training": {"epochs": 3}}
    made = config(root, experiments={"one": {"preset": "msc"}}, **above).experiment("one")
    assert (made.objectives.vcp.weight, made.model.model_dump()["dropout"]) == (0.0, 0.1)
    assert made.training.epochs == 3  # a small preset leaves the course of training to the configuration


def test_at_the_top_the_configurations_own_keys_win(root: Path) -> None:
    values = yaml.safe_load((root / "config" / "tvr.yaml").read_text())
    bare = {key: values[key] for key in ("dataset", "encoders", "features", "text")}
    made = validate({**bare, "preset": "msc", "training": {"epochs": 7}}, source="here").experiment("main")
    expected = load(root / "config" / "tvr.yaml").experiment("main")
    assert made.training.epochs == 7
    assert (made.model, made.objectives, made.evaluation) == (expected.model, expected.objectives, expected.evaluation)


def test_the_papers_variant_fills_its_own_switches(root: Path) -> None:
    made = config(root, experiments={"one": {"preset": "msc/tvr", "variant": "paper"}}).experiment("one")
    assert made.objectives.nce.weights == {"clip": 1.0, "frame": 1.0}
    assert made.training.learning_rate == 3e-4


@pytest.mark.parametrize(
    ("preset", "dataset", "said"),
    [
        ("mcs", {}, "did you mean msc?"),
        ("msc/tvrr", {}, "did you mean tvr?"),
        (3, {}, "there is no preset '3'"),
        ("msc", {"kind": "bundle", "name": "mine"}, "name them: msc/tvr"),
    ],
)
def test_what_is_said_of_a_preset_that_is_not_there(root: Path, preset: Any, dataset: dict, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        config(root, experiments={"one": {"preset": preset}}, dataset=dataset)
    assert said in str(error.value)
    assert "the preset of 'one'" in str(error.value)


def test_a_dataset_decides_which_values() -> None:
    rate = {kind: presets.values("msc", {"kind": kind}, where="")["training"]["learning_rate"] for kind in presets.BENCHMARKS}
    assert rate == {"tvr": 3e-4, "activitynet": 2.5e-4, "charades": 2e-4, "qvhighlights": 2.5e-4}
    assert presets.values("msc", {"kind": "bundle", "name": "charades"}, where="") == presets.values("msc", {"kind": "charades"}, where="")
    assert presets.values("msc", {"kind": "my.reader", "name": "tvr"}, where="")["model"]["hidden"] == 64


def test_what_compare_names(root: Path) -> None:
    named = config(root, compare={"methods": ["main", "msc"], "seeds": [1, 2]})
    assert named.group("compare") == [("main", 1), ("main", 2), ("msc", 1), ("msc", 2)]
    assert config(root, compare={"methods": None, "seeds": None}).group("compare") == config(root).group("table")
    shorter = config(root, compare={"methods": ["main", "msc"], "beside": {"training": {"epochs": 3}}})
    assert (shorter.experiment("msc").training.epochs, shorter.experiment("main").training.epochs) == (3, 30), "an experiment stays"
    own = config(root, compare={"methods": {"wide": {"preset": "msc", "model": {"hidden": 96}}}})
    assert own.experiment("wide").model.hidden == 96
    with pytest.raises(ConfigError, match="share names: main"):
        config(root, compare={"methods": {"main": {}}})


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        (["main", "mian"], "there is no preset 'mian'"),
        (["main", "dl_dkd_plus"], "did you mean dl_dkd_plus_plus"),
        ({"x": {"features": ["resnet"]}}, "features of experiment 'x' names encoder 'resnet'"),
        ({"x": {"text": "demo-slowfast"}}, "text of experiment 'x' is 'demo-slowfast', which has no text tower"),
        ({"x": {"preset": "msc", "model": {"hiden": 3}}}, r"compare.methods.x.model.hiden: unknown key; did you mean `hidden`"),
    ],
)
def test_a_method_that_does_not_fit_is_a_matter_of_compare_alone(root: Path, methods: Any, said: str) -> None:
    made = config(root, compare={"methods": methods})
    assert made.group("table") == config(root).group("table")
    assert [name for name, _ in made.group("compare")] == (["main"] * 2 if "main" in methods else [])
    assert not {"mian", "dl_dkd_plus", "x"} & made.models.keys(), "nothing is made, decoded or measured for it"
    with pytest.raises(ConfigError, match=said):
        made.check_target("compare")
    config(root).check_target("compare")


def test_a_target_without_a_model_is_refused(root: Path) -> None:
    made = config(root, ablations={}, sweeps={})
    made.check_target("table")
    with pytest.raises(ConfigError, match=r"`ablations` names no model[\s\S]*run another target than `ablation`"):
        made.check_target("ablation")
    with pytest.raises(ConfigError, match="`sweeps` names no model"):
        made.check_target("sweeps")


def test_an_experiment_that_does_not_fit_stops_every_target(root: Path) -> None:
    with pytest.raises(ConfigError, match="there is no preset 'mian'"):
        config(root, experiments={"one": {"preset": "mian"}}, compare={"methods": ["one"]})
