"""The README: every command parses to its last option and is run by a test; the demo's table fits together, and is a real run's."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
from pip._internal.commands import create_command
from snakemake.cli import get_argument_parser
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.ranking.metrics import chance
from tests.workflow.test_demo_table import COLUMNS, band, demo_text, tables


def commands(root: Path) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", (root / "README.md").read_text(), flags=re.S)
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines() if line.split("#")[0].strip()]


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
    else:
        assert command == "source .venv/bin/activate", f"{command!r} is run by no test"


def _parse(command: Any, words: list[str]) -> None:
    """Typer's own parsing of a command line, group by group, without running it."""
    try:
        with command.make_context("prvr", words) as context:
            if hasattr(command, "resolve_command"):
                _, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
                _parse(inner, rest)
    except Exception as error:  # typer brings its own click, whose exceptions have no public name
        raise ValueError(f"{' '.join(words)}: {error}") from error


def test_every_command_parses(root: Path) -> None:
    assert len(commands(root)) > 7
    for command in commands(root):
        parse(command, root)


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
    ],
)
def test_a_wrong_command_is_noticed(root: Path, wrong: str) -> None:
    with pytest.raises((ValueError, SystemExit, subprocess.CalledProcessError)):
        parse(wrong, root)


@pytest.mark.parametrize(
    "page", ["README.md", "docs/own-videos.md", "docs/datasets.md", "docs/demo.md", "docs/troubleshooting.md", "docs/cluster.md"]
)
def test_every_prvr_command_named_anywhere_exists(root: Path, page: str) -> None:
    runner = CliRunner()
    for line in re.findall(r"`(prvr [^`]+)`|^(prvr .*)$", (root / page).read_text(), flags=re.M):
        words = [w for w in shlex.split("".join(line).split("#")[0])[1:] if not w.startswith("-")]
        path = words[:1] + [w for w in words[1:2] if words[0] in ("config", "demo", "quarantine", "features") and w.islower()]
        assert runner.invoke(app, [*path, "--help"]).exit_code == 0, f"{page}: prvr {' '.join(path)}"


def test_make_targets_do_what_the_readme_says(root: Path) -> None:
    planned = subprocess.run(["make", "--dry-run", "demo"], cwd=root, capture_output=True, text=True, check=True).stdout
    assert "snakemake --cores all --resources gpu=1" in planned


def test_the_demos_table_fits_together(root: Path) -> None:
    """Sums, chance, gains and multiples follow from the recalls beside them, to the digit they are printed with."""
    text = demo_text(root)
    whole, motion = tables(text)
    assert 0 < band(text) < 10
    gallery = int(re.search(r"against (\d+) videos", text)[1])  # type: ignore[index]
    expected = chance(gallery)
    assert whole["chance"] == [round(expected[name], 1) for name in COLUMNS]
    for row in (*whole.values(), *motion.values()):
        assert row[-1] == pytest.approx(sum(row[:-1]), abs=0.21)  # five roundings of 0.05
    said = re.findall(r"- ([\w-]+): R@1 is ([\d.]+) times chance, SumR ([+-][\d.]+) against zero-shot", text)
    assert [name for name, *_ in said] == [name for name in whole if name not in ("zero-shot max-sim", "chance")]
    for name, times, gain in said:
        assert float(times) == pytest.approx(whole[name][0] / expected["R@1"], abs=0.06 / expected["R@1"] + 0.05)
        assert float(gain) == pytest.approx(whole[name][-1] - whole["zero-shot max-sim"][-1], abs=0.16)
