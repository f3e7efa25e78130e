"""The commands of docs/own-videos.md and of the README, run in order on a folder of generated videos, to a search."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.config.schema import merge
from tests.datasets.miniature import encode
from tests.workflow.workspace import MODEL, TRAINING, demo_config

pytestmark = pytest.mark.slow

# The reader's commands by the names they have once installed.
SHIMS = {"prvr": 'exec {python} -m pipeline.cli "$@"', "snakemake": 'exec {python} -m snakemake --snakefile {root}/Snakefile "$@"'}


def test_the_commands_of_the_worked_example(root: Path, tmp_path: Path) -> None:
    text = (root / "docs" / "own-videos.md").read_text()
    commands = re.findall(r"```bash\n(.*?)```", text.split("## The columns")[0], flags=re.S)
    assert len(commands) == 5
    readme = (root / "README.md").read_text().split("## Your own videos")[1].split("```bash\n")[1].split("```")[0]
    known = {line for command in commands for line in command.splitlines()}
    added = [line for line in (line.split("  #")[0].strip() for line in readme.splitlines()) if line not in known]
    assert [line.split()[:2] for line in added] == [["source", ".venv/bin/activate"], ["prvr", "search"]]
    commands.append(added[1])
    for i, (name, seconds) in enumerate({"kitchen.mp4": 3, "garden.mov": 4, "trips/beach.mp4": 2}.items()):
        encode(tmp_path / "my-videos" / name, seconds, i)
    for name, line in SHIMS.items():
        shim = tmp_path / "bin" / name
        shim.parent.mkdir(exist_ok=True)
        shim.write_text(f"#!/bin/sh\n{line.format(python=sys.executable, root=root)}\n")
        shim.chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    printed = []
    for command in commands:
        if command.startswith("snakemake"):
            small_encoder(tmp_path / "my-videos.yaml", root)
        done = subprocess.run(["bash", "-ec", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        printed.append(done.stdout + done.stderr)
    init, _, _, plan, _, answer = printed
    assert "3 video files in 2 folders" in init
    for part in ("train: 1 videos, 2 queries", "test: 1 videos, 1 queries", "videos     3", "features clip-b16", "ViT-B-16.pt"):
        assert part in plan, plan
    table = (tmp_path / "results" / "my-videos" / "table.md").read_text()
    assert "1 queries of the test split against 1 videos; epochs chosen on val" in table
    assert "trips/beach" in answer


def small_encoder(path: Path, root: Path) -> None:
    """Put the demo's encoder in the place of the published one, whose weights are not here, and shorten the training."""
    encoder = demo_config()["encoders"]["demo-clip-b16"]
    over = {"encoders": {"clip-b16": {**encoder, "weights": str(root / encoder["weights"])}}, "model": MODEL, "training": TRAINING}
    path.write_text(yaml.safe_dump(merge(yaml.safe_load(path.read_text()), over), sort_keys=False))
