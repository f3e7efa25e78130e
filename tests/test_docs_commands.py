"""Every command on every page parses to its last option; those of the tutorials are also run, each by the test its page names."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import typer
from pip._internal.commands import create_command
from snakemake.cli import get_argument_parser
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.search.openapi import DESCRIPTION

ELSEWHERE = ("rclone",)  # programs for storage we do not run: their block says so


def pages(root: Path) -> list[Path]:
    """Everything the site shows but what was printed by a benchmark."""
    return [*root.glob("*.md"), *sorted((root / "docs").glob("*.md")), root / "benchmarks" / "README.md"]


def commands(page: Path) -> list[str]:
    """The lines of a page's blocks of commands, without their comments; a block that writes a file is run by its page's test."""
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(), flags=re.S)
    lines = [line for block in blocks if "<<" not in block for line in block.splitlines()]
    return [command for line in lines if (command := re.split(r"(?:^|\s)#", line)[0].strip())]


def parse(command: str, root: Path) -> None:
    """What the named program itself makes of the whole line; raises or exits when it knows a word of it not."""
    program, *words = shlex.split(command)
    if Path(program).name == "prvr":
        _parse(typer.main.get_command(app), words)
        if words[0] == "run":  # which passes its words on
            get_argument_parser().parse_args(words[1:])
    elif program == "pip":
        create_command(words[0]).parser.parse_args(words[1:])
    elif program == "snakemake":
        get_argument_parser().parse_args(words)
    elif program == "make":
        subprocess.run(["make", "--dry-run", *words], cwd=root, capture_output=True, check=True)
    elif command.startswith("python -m benchmarks."):
        importlib.import_module(words[1]).arguments().parse_args(words[2:])
    elif program == "docker":
        _container(words, root)
    elif program == "curl":
        address = urlsplit(words[0])
        known = {parameter["name"] for parameter in DESCRIPTION["paths"][address.path]["get"]["parameters"]}
        assert parse_qs(address.query).keys() <= known
    else:
        typed = {"source .venv/bin/activate", "python3 -m venv .venv", "git clone URL-OF-THIS-REPOSITORY prvr", "cd prvr"}
        assert command in typed or program in ELSEWHERE or _runs_in_a_test(command), f"{command!r} is run by no test"


def _parse(command: Any, words: list[str]) -> None:
    """Typer's own parsing of a command line, group by group, without running it."""
    try:
        with command.make_context("prvr", words) as context:
            words = [*context._protected_args, *context.args]
            if hasattr(command, "resolve_command") and (words or not command.invoke_without_command):
                _, inner, rest = command.resolve_command(context, words)
                _parse(inner, rest)
    except Exception as error:  # typer brings its own click, whose exceptions have no public name
        raise ValueError(f"{' '.join(words)}: {error}") from error


def _container(words: list[str], root: Path) -> None:
    """A build names a recipe that is here; what a container is given to do is one of our own commands."""
    options = {"--file", "--tag", "--volume", "--gpus", "--shm-size", "--network", "--user"}
    if words[0] == "build":
        assert (root / words[words.index("--file") + 1]).is_file()
        assert words[-1] == "."
    else:
        assert words[0] == "run"
        image = words.index("prvr")
        parse(shlex.join(words[image:]), root)
        words = words[:image]
    assert {word for word in words if word.startswith("--")} <= options | {"--rm"}


def _runs_in_a_test(command: str) -> bool:
    return command.startswith("sed -i ")  # tests/datasets/test_own_videos_doc.py


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs", "benchmarks"])
def test_every_command_parses(root: Path, page: str) -> None:
    found = [(file, command) for file in pages(root) if str(file.relative_to(root)).startswith(page) for command in commands(file)]
    assert found or page == "benchmarks"
    for file, command in found:
        try:
            parse(command, root)
        except (ValueError, SystemExit, AssertionError, subprocess.CalledProcessError) as error:
            pytest.fail(f"{file.name}: {command}\n{error}")


@pytest.mark.parametrize(
    "wrong",
    [
        "prvr plann --config x.yaml",
        "prvr plan --conf x.yaml",
        "snakemake --nothing",
        "prvr run --nothing",
        "pip wheel --nothing",
        "prvr init a b c",
        "make dmeo",
        "docker run --rm prvr serv",
        "docker build --file envs/Nothing --tag prvr .",
        "curl http://127.0.0.1:8765/api/search?query=a",
        "curl http://127.0.0.1:8765/api/serach?q=a",
        "python -m benchmarks.world_rows sav",
        "rm -rf results",
    ],
)
def test_a_wrong_command_is_noticed(root: Path, wrong: str) -> None:
    with pytest.raises((ValueError, SystemExit, AssertionError, KeyError, subprocess.CalledProcessError)):
        parse(wrong, root)


def test_every_prvr_command_named_in_a_sentence_exists(root: Path) -> None:
    runner = CliRunner()
    named = {}
    for page in pages(root):
        for span in re.findall(r"`(prvr [^`]+)`", page.read_text()):
            words = [word for word in shlex.split(span)[1:] if not word.startswith("-")]
            group = words and words[0] in ("config", "demo", "quarantine", "features", "runs") and words[1:2] and words[1].islower()
            named[tuple(words[: 2 if group else 1])] = page.name
    assert len(named) > 15
    for path, name in named.items():
        assert runner.invoke(app, [*path, "--help"]).exit_code == 0, f"{name}: prvr {' '.join(path)}"


def test_every_setting_named_in_a_sentence_exists(root: Path) -> None:
    """`clips.tau` on any page is a row of the configuration reference, which is generated."""
    known: set[str] = set()
    for part in (root / "docs" / "configuration.md").read_text().split("\n## ")[1:]:
        prefix = re.match(r"`([\w.<>]+)`", part)
        keys = re.findall(r"^\| `(\w+)` \|", part, flags=re.M)
        known |= {f"{prefix[1]}.{key}" for key in keys} if prefix else set()
    known |= {key.removeprefix("encoders.<name>.") for key in known}
    sections = {key.split(".")[0] for key in known} - {"encoders"}
    assert {"clips", "model", "objectives", "training", "sampling"} <= sections
    wrong = []
    for page in pages(root):
        for key in re.findall(rf"`((?:{'|'.join(sorted(sections))})(?:\.\w+)+)(?::[^`]*)?`", page.read_text()):
            if key not in known and not any(other.startswith(f"{key}.") for other in known) and not (root / key).exists():
                wrong.append(f"{page.name}: {key}")
    assert [name for name in wrong if not re.search(r"\.(h5|json|tsv|py|yaml|md|csv|png|safetensors)$", name)] == []


def test_the_versions_the_readme_names_are_those_of_the_package(root: Path) -> None:
    low, high = re.findall(r"3\.(\d+)", tomllib.loads((root / "pyproject.toml").read_text())["project"]["requires-python"])
    assert f"Python 3.{low} to 3.{int(high) - 1}" in (root / "README.md").read_text()
