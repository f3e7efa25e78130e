"""Every command of the README exists and is run by a test."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app

# Where each command of the README is run. `make test` is what runs this.
RUN_BY = {
    "make demo": "tests/workflow/test_demo.py",
    "make test": "Makefile",
    "source": "README.md",
    "prvr init": "tests/datasets/test_own_videos_doc.py",
    "prvr plan": "tests/datasets/test_own_videos_doc.py",
    "snakemake": "tests/datasets/test_own_videos_doc.py",
    "prvr search": "tests/workflow/test_demo.py",
    ".venv/bin/prvr search": "tests/workflow/test_demo.py",
}


def commands(root: Path) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", (root / "README.md").read_text(), flags=re.S)
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines() if line.split("#")[0].strip()]


def test_every_command_is_run_by_a_test(root: Path) -> None:
    for command in commands(root):
        name = next((name for name in RUN_BY if command.startswith(name)), None)
        assert name is not None, f"{command!r} is run by no test"
        words = name.split()[-1]
        assert words in (root / RUN_BY[name]).read_text(), f"{RUN_BY[name]} does not run {name}"


@pytest.mark.parametrize("page", ["README.md", "docs/own-videos.md", "docs/datasets.md", "docs/demo.md", "docs/troubleshooting.md"])
def test_every_prvr_command_named_anywhere_exists(root: Path, page: str) -> None:
    runner = CliRunner()
    for line in re.findall(r"`(prvr [^`]+)`|^(prvr .*)$", (root / page).read_text(), flags=re.M):
        words = [w for w in shlex.split("".join(line).split("#")[0])[1:] if not w.startswith("-")]
        path = words[:1] + [w for w in words[1:2] if words[0] in ("config", "demo", "quarantine", "features") and w.islower()]
        assert runner.invoke(app, [*path, "--help"]).exit_code == 0, f"{page}: prvr {' '.join(path)}"


def test_make_targets_do_what_the_readme_says(root: Path) -> None:
    planned = subprocess.run(["make", "--dry-run", "demo"], cwd=root, capture_output=True, text=True, check=True).stdout
    assert "snakemake --cores all --resources gpu=1" in planned
