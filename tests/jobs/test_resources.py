"""What jobs ask a scheduler for follows the videos of their shard."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pipeline.config.schema import Config
from pipeline.core.atomic import write_json
from pipeline.core.source import Source
from pipeline.jobs.dag import Dag
from pipeline.jobs.headers import SECONDS
from pipeline.jobs.resources import Requests
from pipeline.jobs.stages import STAGES

ENCODERS = {"clip-b16": {"kind": "open_clip"}, "slowfast": {"kind": "slowfast"}}


def requests(tmp_path: Path, shards: dict[str, list[float | None]]) -> Requests:
    config = Config(results=str(tmp_path), encoders=ENCODERS, features=["clip-b16", "slowfast"], text="clip-b16")
    dag = Dag(config, config.layout)
    members = {s: [Source(f"{s}-{i}", (), "", d) for i, d in enumerate(durations)] for s, durations in shards.items()}
    dag.__dict__["shards"] = members  # a cached property: no files are needed
    return Requests(dag)


def ask(of: dict[str, Callable[..., int]], attempt: int = 1, **wildcards: str) -> tuple[int, int, int]:
    return of["runtime"](wildcards, attempt), of["mem_mb"](wildcards, attempt), of["disk_mb"](wildcards)


@pytest.mark.parametrize(
    ("rule", "wildcards"),
    [("frames", {}), ("features", {"encoder": "slowfast"}), ("clips", {})],
)
def test_longer_videos_ask_for_more(tmp_path: Path, rule: str, wildcards: dict[str, str]) -> None:
    needs = requests(tmp_path, {"000": [60.0] * 50, "001": [600.0] * 100})
    if rule == "clips":
        wildcards = {"recipe": needs.costs.collection.clips("main")}
    small, large = (ask(needs.of(rule), shard=shard, **wildcards) for shard in ("000", "001"))
    assert all(a <= b for a, b in zip(small, large, strict=True))
    assert large[2] > 1.5 * small[2]


def test_a_retry_asks_for_more_time_and_memory(tmp_path: Path) -> None:
    of = requests(tmp_path, {"000": [60.0] * 50}).of("frames")
    first, second = ask(of, 1, shard="000"), ask(of, 2, shard="000")
    assert second[0] > first[0]
    assert second[1] == pytest.approx(1.5 * first[1], abs=1)
    assert second[2] == first[2]


def test_frames_on_disk(tmp_path: Path) -> None:
    """One still of 224 x 224 every 2 s; and of SlowFast, every second frame of 30 a second."""
    (_, _, disk) = ask(requests(tmp_path, {"000": [1000.0]}).of("frames"), shard="000")
    stills, windows = 500, 500 * 30
    assert disk == math.ceil((stills + windows) * 3 * 224**2 / 1e6) + 10


def test_unknown_lengths_come_from_the_manifest_once_decoded(tmp_path: Path) -> None:
    needs = requests(tmp_path, {"000": [None, None]})
    assert needs.lengths.shard("000") == 2 * SECONDS
    write_json(needs.costs.collection.layout.frames_manifest("000"), {"videos": {"000-0": {"duration": 20.0}, "000-1": {"duration": None}}})
    assert needs.lengths.shard("000") == 20 + SECONDS


def test_every_rule_asks(root: Path) -> None:
    text = "".join(path.read_text() for path in (root / "workflow" / "rules").glob("*.smk"))
    assert set(re.findall(r"^ *rule (\w+):", text, flags=re.M)) == STAGES.keys()
    for name, stage in STAGES.items():
        (rule,) = re.findall(rf"rule {name}:\n.*?(?=^ *rule |\Z)", text, flags=re.M | re.S)
        for said in (f'**NEEDS.of("{name}")', f'params_of("{name}")', f'log_of("{name}")', f'benchmark_of("{name}")'):
            assert said in rule
        assert ("gpu=GPU" in rule) == stage.gpu


@pytest.mark.parametrize("name", ["slurm", "generic"])
def test_remote_profiles_repeat_the_default_one(root: Path, name: str) -> None:
    """Snakemake takes a workflow profile instead of profiles/default, not on top of it."""
    profiles = {n: yaml.safe_load((root / "profiles" / n / "config.yaml").read_text()) for n in ("default", name)}
    same = {k: v for k, v in profiles["default"].items() if k != "printshellcmds"}
    assert json.dumps(same, sort_keys=True) == json.dumps({k: profiles[name].get(k) for k in same}, sort_keys=True)
    asked = {rule for rule, resources in profiles[name]["set-resources"].items() if resources["gpu"] == 1}
    assert asked == {stage.name for stage in STAGES.values() if stage.gpu}
