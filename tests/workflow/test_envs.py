"""The conda environments hold what pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

LEFT_OUT = {"torch", "torchvision", "snakemake"}  # conda's own pytorch; the workflow engine runs outside the jobs


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_environment_matches_the_package(root: Path, name: str) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]["dependencies"]
    wanted = {re.split(r"[<>=]", spec)[0]: spec for spec in project}
    content = yaml.safe_load((root / "envs" / f"{name}.yaml").read_text())["dependencies"]
    listed = {re.split(r"[<>=]", spec)[0]: spec for spec in next(d for d in content if isinstance(d, dict))["pip"]}
    expected = {k: v for k, v in wanted.items() if k not in LEFT_OUT and not k.startswith("snakemake-")}
    assert listed == expected


def test_rules_use_only_these(root: Path) -> None:
    used = set(re.findall(r"envs/(\w+)\.yaml", "".join(p.read_text() for p in (root / "workflow" / "rules").glob("*.smk"))))
    assert used == {p.stem for p in (root / "envs").glob("*.yaml")}


def test_constraints_pin_every_dependency(root: Path) -> None:
    pins = {line.split("==")[0].lower().replace("_", "-") for line in (root / "constraints.txt").read_text().splitlines() if "==" in line}
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    every = project["dependencies"] + [s for extra in project["optional-dependencies"].values() for s in extra]
    names = {re.split(r"[<>=]", spec)[0].lower().replace("_", "-") for spec in every} - {"setuptools"}
    assert names <= pins


def test_the_lock_has_the_constraints_versions_with_their_hashes(root: Path) -> None:
    """`make` installs what the lock names: every dependency with its hashes, in the versions that were tested."""
    entries = re.findall(r"^([\w.-]+)==([^ ;\\]+)(.*(?:\n    .*)*)", (root / "requirements.lock").read_text(), flags=re.M)
    locked = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version, _ in entries}
    assert [name for name, _, rest in entries if not re.search(r"--hash=sha256:[0-9a-f]{64}", rest)] == []
    pinned = dict(line.split("==") for line in (root / "constraints.txt").read_text().splitlines() if "==" in line)
    pinned = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pinned.items()}
    assert {name: version for name, version in locked.items() if name in pinned} == pinned
    assert set(locked) - set(pinned) == {"cffi", "colorama", "httpx2-jsfetch", "pycparser", "pyreadline3"}, "those of other platforms"
    assert "--require-hashes --requirement requirements.lock" in (root / "Makefile").read_text()
