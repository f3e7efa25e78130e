"""The container recipe holds what the package needs. It is read here, not built."""

from __future__ import annotations

import json
import os
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from pip._internal.commands import create_command


@pytest.fixture
def recipe(root: Path) -> str:
    return (root / "envs" / "Dockerfile").read_text()


def copied(text: str) -> list[str]:
    """What the COPY lines of a part of the recipe take."""
    return [name for line in re.findall(r"^COPY (.+)$", text, flags=re.M) for name in line.split()[:-1]]


def test_every_line_is_an_instruction(recipe: str) -> None:
    lines = [line.split()[0] for line in recipe.splitlines() if not line.startswith("#")]
    assert set(lines) <= {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "ENTRYPOINT", "CMD"}
    for line in re.findall(r"^(?:ENTRYPOINT|CMD) (.+)$", recipe, flags=re.M):
        assert all(isinstance(word, str) for word in json.loads(line))


def test_everything_copied_exists(root: Path, recipe: str) -> None:
    assert {"pipeline", "prvr", "workflow", "Snakefile", "config.yaml", "profiles", "envs", "pyproject.toml", "requirements.lock"} <= set(
        copied(recipe)
    )
    assert [name for name in copied(recipe) if not (root / name).exists()] == []


def test_what_each_command_reads_is_there_before_it(root: Path, recipe: str) -> None:
    """The lock before the dependencies; what the package is built of, and what its links lead to, before the package."""
    dependencies, package = (found.start() for found in re.finditer("^RUN ", recipe, flags=re.M))
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    links = {os.readlink(path).split("/")[-1] for path in (root / "prvr" / "project").iterdir() if path.is_symlink()}
    assert "requirements.lock" in copied(recipe[:dependencies])
    assert {project["readme"], *project["license-files"], "pyproject.toml", "pipeline", "prvr", *links} <= set(copied(recipe[:package]))


def test_each_command_is_one_that_pip_knows(recipe: str) -> None:
    for command in re.findall(r"^RUN (.+)$", recipe, flags=re.M):
        program, *words = shlex.split(command)
        assert program == "pip"
        create_command(words[0]).parser.parse_args(words[1:])


def test_it_installs_what_make_installs(root: Path, recipe: str) -> None:
    installs = [re.findall(r"pip install (.*)", text) for text in (recipe, (root / "Makefile").read_text())]
    ours, theirs = ([set(shlex.split(line)) for line in lines] for lines in installs)
    assert [words - {"--no-cache-dir"} for words in ours] == [words - {"--quiet", "--disable-pip-version-check"} for words in theirs]


def test_python_is_one_we_support(root: Path, recipe: str) -> None:
    low, high = re.findall(r"3\.(\d+)", tomllib.loads((root / "pyproject.toml").read_text())["project"]["requires-python"])
    image = re.search(r"^FROM python:3\.(\d+)-", recipe, flags=re.M)
    assert image
    assert int(low) <= int(image.group(1)) < int(high)
