"""Schedules, levels, names, and how a variant fills what is left out."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clips.recipe import levels, recipe, recipe_name, schedule, steps
from pipeline.config import variants
from pipeline.config.method import Clips, Experiment
from pipeline.config.reading import validate
from pipeline.config.schema import Config, merge
from pipeline.core import plugins
from pipeline.core.errors import ConfigError

BASE: dict[str, Any] = {"encoders": {"clip": {"kind": "open_clip"}, "motion": {"kind": "slowfast"}}, "features": ["clip"], "text": "clip"}


def _experiment(**values: Any) -> Experiment:
    return validate(merge(BASE, values), source="test").experiment("main")


def test_released_and_paper_lengths() -> None:
    assert schedule(Clips(), "released") == [80, 52, 32]
    assert schedule(Clips(), "paper") == [80, 50, 32]
    assert levels(Clips(), "released") == [32, 20, 12, 8, 5]
    assert levels(Clips(), "paper") == [32, 20, 12, 8, 6, 5]


def test_other_lengths_and_rates_follow_equation_9() -> None:
    assert schedule(Clips(merge_rate=0.5), "released") == [96, 72, 54, 40, 32]
    assert levels(Clips(merge_rate=0.5), "paper") == [32, 24, 18, 14, 10, 8, 6, 5]
    assert schedule(Clips(frames=64, clips=16), "released") == [40, 26, 16]
    assert levels(Clips(clips=4), "paper") == [4]
    assert schedule(Clips(schedule=[64, 32]), "paper") == [64, 32]


@given(st.integers(1, 300), st.integers(1, 64), st.floats(0, 1))
def test_every_step_is_possible_and_ends_where_asked(start: int, end: int, rate: float) -> None:
    chain = [start, *steps(start, end, rate)]
    assert chain[-1] == min(start, end)
    for before, after in itertools.pairwise(chain):
        assert -(-before // 2) <= after < before


def test_the_variant_fills_what_is_left_out_and_nothing_else() -> None:
    released, paper = _experiment(), _experiment(variant="paper", objectives={"cbva": {"similarity": "dot"}}, clips={"tau": 0.7})
    for switch, (theirs, written) in variants.SWITCHES.items():
        found = [_at(experiment, switch) for experiment in (released, paper)]
        assert found == [theirs, "dot" if switch == "objectives.cbva.similarity" else written], switch
    assert paper.clips.tau == 0.7


def test_the_sections_alone_are_the_released_variant() -> None:
    plain = Experiment(features=["clip"], text="clip")
    for switch, (theirs, _) in variants.SWITCHES.items():
        assert _at(plain, switch) == theirs, switch


def test_an_experiment_may_choose_its_own_variant() -> None:
    config = validate(merge(BASE, {"experiments": {"main": {}, "written": {"variant": "paper"}}}), source="test")
    assert config.experiment("written").objectives.cbva.normaliser == "sum"
    assert config.experiment("main").objectives.cbva.normaliser == "mean"


def test_every_switch_is_in_the_documentation(root: Path) -> None:
    text = (root / "docs" / "method.md").read_text()
    switches = [*variants.SWITCHES, "clips.schedule", "clips.levels"]
    assert [switch for switch in switches if f"`{switch}`" not in text] == []


def test_names_differ_exactly_when_the_content_does() -> None:
    name = recipe_name(_experiment())
    assert name.startswith("clip-optome128to32-tau0.8-")
    assert recipe_name(_experiment(objectives={"cbva": {"weight": 0}}, training={"epochs": 3})) == name
    assert recipe_name(_experiment(clips={"schedule": [80, 52, 32]})) == name
    assert recipe_name(_experiment(clips={"merge_rate": 0.5, "schedule": [80, 52, 32], "levels": None})) != name
    for other in ({"tau": 0.7}, {"similarity": "cosine"}, {"dtype": "float32"}, {"method": "uniform"}, {"join": "unit"}):
        assert recipe_name(_experiment(clips=other)) != name, other
    assert recipe_name(_experiment(variant="paper")) != name
    assert recipe_name(_experiment(features=["clip", "motion"])) != recipe_name(_experiment(features=["motion", "clip"]))


def test_what_uniform_clips_do_not_use_makes_no_other_file() -> None:
    assert recipe_name(_experiment(clips={"method": "uniform"})) == recipe_name(
        _experiment(clips={"method": "uniform", "similarity": "cosine"})
    )
    assert recipe(_experiment(clips={"method": "uniform"}))["schedule"] is None


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ({"clips": 129}, r"clips \(129\) cannot be more than frames \(128\)"),
        ({"schedule": [80, 52]}, r"schedule must end with clips \(32\)"),
        ({"schedule": [60, 32]}, r"128 can become 64 to 127, not 60"),
        ({"levels": [20, 12]}, r"levels must begin with clips \(32\)"),
        ({"levels": [32, 32]}, r"32 can become 16 to 31, not 32"),
        ({"merge_rate": 0.5, "schedule": [80, 52, 32], "levels": [32, 20]}, r"merge_rate has no effect"),
    ],
)
def test_impossible_lengths_are_refused(clips: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _experiment(clips=clips)


def test_the_workflow_parses_without_torch() -> None:
    code = "import sys, pipeline.clips.recipe, pipeline.config.variants; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _at(experiment: Experiment | Config, switch: str) -> Any:
    value: Any = experiment
    for part in switch.split("."):
        value = getattr(value, part)
    return value


def test_the_paper_of_another_method_does_not_take_mscs_switches() -> None:
    written = _experiment(variant="paper", model={"kind": "ms_sl"})
    assert (written.objectives.nce.clip, written.objectives.nce.frame, written.clips.last_row) == (0.02, 0.04, "drop")
    assert set(variants.OF_KIND) <= set(plugins.kinds("models"))
