"""The commands of docs/own-videos.md, run in order on a folder of two generated videos."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.datasets.miniature import encode

# The reader's commands by the names they have once installed. Without an encoder's weights Snakemake can only plan.
SHIMS = {
    "prvr": 'exec {python} -m pipeline.cli "$@"',
    "snakemake": 'exec {python} -m snakemake --snakefile {root}/Snakefile --dry-run "$@"',
}


def test_the_commands_of_the_worked_example(root: Path, tmp_path: Path) -> None:
    text = (root / "docs" / "own-videos.md").read_text()
    commands = re.findall(r"```bash\n(.*?)```", text.split("## The columns")[0], flags=re.S)
    assert len(commands) == 5
    encode(tmp_path / "my-videos" / "kitchen.mp4", 3, 0)
    encode(tmp_path / "my-videos" / "trips" / "beach.mp4", 2, 1)
    for name, line in SHIMS.items():
        shim = tmp_path / "bin" / name
        shim.parent.mkdir(exist_ok=True)
        shim.write_text(f"#!/bin/sh\n{line.format(python=sys.executable, root=root)}\n")
        shim.chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(root)}
    printed = []
    for command in commands:
        done = subprocess.run(["bash", "-ec", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        printed.append(done.stdout + done.stderr)
    init, _, _, plan, run = printed
    assert "2 video files in 2 folders" in init
    for part in ("train: 1 videos, 2 queries", "test: 1 videos, 1 queries", "videos     2", "features clip-b16", "ViT-B-16.pt"):
        assert part in plan, plan
    assert re.search(r"^features +\d", run, flags=re.M), run
