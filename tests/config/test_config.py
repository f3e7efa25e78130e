"""The configuration: messages name the key and the mend, experiments inherit, generated files do not drift."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from pipeline.config import docs as config_docs
from pipeline.config import reading as config_io
from pipeline.core.errors import ConfigError

SMALL = {
    "encoders": {"clip": {"kind": "open_clip"}, "motion": {"kind": "slowfast"}},
    "features": ["clip", "motion"],
    "text": "clip",
    "experiments": {"main": {}, "still": {"features": ["clip"], "objectives": {"tcpl": {"angle": 0}}}},
}


def test_experiments_inherit_and_override() -> None:
    config = config_io.validate(SMALL, source="test")
    assert config.experiment("main").features == ["clip", "motion"]
    still = config.experiment("still")
    assert still.features == ["clip"]
    assert (still.objectives.tcpl.angle, still.objectives.tcpl.distance) == (0, 15)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"trainning": {}}, r"trainning: unknown key; did you mean `training`\?"),
        ({"training": {"epoch": 3}}, r"training\.epoch: unknown key; did you mean `epochs`\?.*allowed here: epochs, batch_videos"),
        ({"training": {"epochs": "many"}}, r"training\.epochs: .*valid integer.*given: 'many'"),
        ({"dataset": {"kind": "charade"}}, r"dataset\.kind: 'charade' is not one of .*did you mean charades\?"),
        (
            {"encoders": {"clip": {"kind": "open_clip", "wheights": "x"}}},
            r"encoders\.clip.*wheights: unknown key; did you mean `weights`\?",
        ),
        ({"features": ["clipp"]}, r"names encoder 'clipp': did you mean clip\? there are: clip, motion"),
        ({"text": "motion"}, r"has no text tower"),
        ({"experiments": {"x": {"trainin": {}}}}, r"trainin.*did you mean `training`\?"),
        ({"clips": {"tau": 3}}, r"clips\.tau: .*less than or equal to 1.*given: 3"),
    ],
)
def test_wrong_values_are_explained(change: dict, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        config_io.validate({**SMALL, **change}, source="my.yaml")


def test_all_problems_at_once_with_the_file() -> None:
    with pytest.raises(ConfigError) as error:
        config_io.validate({**SMALL, "seedz": [1], "training": {"epoch": 1}}, source="my.yaml")
    assert "seedz" in str(error.value)
    assert "training.epoch" in str(error.value)
    assert "my.yaml" in str(error.value)


def test_mscs_ablations_are_not_those_of_another_model() -> None:
    other = {"model": {"kind": "ms_sl"}, "clips": {"frame_rows": "capped", "method": "rows"}}
    config = config_io.validate({**SMALL, **other}, source="test")
    assert list(config.models) == ["main", "still"]
    assert config.experiment("still").clips.frame_rows == "capped"
    assert config_io.validate(SMALL, source="test").ablations


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration"):
        config_io.load(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        config_io.load(tmp_path / "bad.yaml")


def test_generated_files_do_not_drift(root: Path) -> None:
    assert (root / config_docs.SCHEMA_FILE).read_text() == config_docs.schema(), "run `prvr config docs`"
    assert (root / config_docs.REFERENCE_FILE).read_text() == config_docs.reference(), "run `prvr config docs`"


def test_every_shipped_configuration_loads_and_fits_the_schema(root: Path) -> None:
    schema = yaml.safe_load(config_docs.schema())
    files = [root / "config.yaml", *sorted((root / "config").glob("*.yaml"))]
    assert len(files) > 1
    for path in files:
        config_io.load(path)
        jsonschema.validate(config_io.read(path), schema)


@pytest.mark.parametrize("key", ["seeds", "ablation_seeds"])
@pytest.mark.parametrize("seed", [-1, 2**32, 1.5])
def test_a_seed_that_is_none_is_refused(key: str, seed: object) -> None:
    """A minus sign fits no path of a run; numpy takes no more than 32 bits."""
    with pytest.raises(ConfigError, match=key):
        config_io.validate({**SMALL, key: [1, seed]}, source="test")


def test_keys_of_a_users_own_kind_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt key names those of the user's own settings, not ours, and its place is what stands in the file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spelt").mkdir()
    own = {
        "reader": ("pipeline.config.inputs", "Dataset", "agreeing: int = 2"),
        "encoder": ("pipeline.config.encoder", "Encoder", "depth: int = 3"),
        "model": ("pipeline.config.models", "ModelSettings", "dropout: float = 0.5"),
        "objective": ("pipeline.config.objectives", "ObjectiveSettings", "threshold: float = 0.5"),
    }
    for name, (module, base, line) in own.items():
        (tmp_path / "spelt" / f"{name}.py").write_text(f"from {module} import {base}\n\nclass Settings({base}):\n    {line}\n")
    wrong = {
        "dataset": {"kind": "spelt.reader", "agreing": 3},
        "encoders": {"a": {"kind": "spelt.encoder", "deph": 2, "sampling": {"evry": 1}}, "b": {"kind": "open_clip", "weigts": "x"}},
        "features": ["a"],
        "text": "b",
        "model": {"kind": "spelt.model", "dropuot": 0.1},
        "objectives": {"own": {"kind": "spelt.objective", "treshold": 1}},
    }
    with pytest.raises(ConfigError) as refused:
        config_io.validate(wrong, source="x.yaml")
    said = str(refused.value)
    for place, near in (
        ("dataset.agreing", "agreeing"),
        ("encoders.a.deph", "depth"),
        ("encoders.a.sampling.evry", "every"),
        ("encoders.b.weigts", "weights"),
        ("model.dropuot", "dropout"),
        ("objectives.own.treshold", "threshold"),
    ):
        assert f"  {place}: unknown key; did you mean `{near}`? allowed here: " in said
    right = {"encoders": {"b": {"kind": "open_clip"}}, "features": ["b"], "text": "b"}
    experiments = {"mine": {"model": {"kind": "spelt.model", "dropuot": 0.1}}}
    with pytest.raises(ConfigError, match=r"experiments\.mine\.model\.dropuot: unknown key; did you mean `dropout`\?"):
        config_io.validate({**right, "experiments": experiments}, source="x.yaml")
