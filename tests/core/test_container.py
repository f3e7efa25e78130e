"""The container recipe holds what the package needs. It is read here, not built."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest


@pytest.fixture
def recipe(root: Path) -> str:
    return (root / "envs" / "Dockerfile").read_text()


def test_everything_copied_exists(root: Path, recipe: str) -> None:
    copied = [name for line in re.findall(r"^COPY (.+)$", recipe, flags=re.M) for name in line.split()[:-1]]
    assert {"pipeline", "workflow", "Snakefile", "config.yaml", "profiles", "envs", "pyproject.toml", "constraints.txt"} <= set(copied)
    assert [name for name in copied if not (root / name).exists()] == []


def test_what_the_build_reads_is_there_before_it(root: Path, recipe: str) -> None:
    before = recipe[: recipe.index("pip install")]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert all(name in before for name in [project["readme"], *project["license-files"], "pyproject.toml", "constraints.txt", "pipeline"])


def test_python_and_pins(root: Path, recipe: str) -> None:
    low, high = re.findall(r"3\.(\d+)", tomllib.loads((root / "pyproject.toml").read_text())["project"]["requires-python"])
    image = re.search(r"^FROM python:3\.(\d+)-", recipe, flags=re.M)
    assert image
    assert int(low) <= int(image.group(1)) < int(high)
    assert "-c constraints.txt" in recipe
