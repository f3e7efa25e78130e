"""The commands of docs/own-videos.md, in order, on a folder of generated videos, to a page and a run; the README types the same."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml

from pipeline.config.schema import merge
from tests.datasets.miniature import encode
from tests.workflow.workspace import MODEL, TRAINING, demo_config

pytestmark = pytest.mark.slow

# The reader's commands by the names they have once installed.
SHIMS = {"prvr": 'exec {python} -m pipeline.cli "$@"', "snakemake": 'exec {python} -m snakemake --snakefile {root}/Snakefile "$@"'}


class Reader:
    """Somebody who types commands in a folder of three videos."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder = folder
        for i, (name, seconds) in enumerate({"kitchen.mp4": 3, "garden.mov": 4, "trips/beach.mp4": 2}.items()):
            encode(folder / "my-videos" / name, seconds, i)
        for name, line in SHIMS.items():
            shim = folder / "bin" / name
            shim.parent.mkdir(exist_ok=True)
            shim.write_text(f"#!/bin/sh\n{line.format(python=sys.executable, root=root)}\n")
            shim.chmod(0o755)
        path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}

    def types(self, command: str, *, code: int = 0) -> str:
        """What the command prints, both streams."""
        done = subprocess.run(
            ["bash", "-ec", command], cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert done.returncode == code, f"{command}\n{done.stdout}"
        return done.stdout

    def opens(self, command: str, query: str) -> dict:
        """What the page of a `prvr serve` answers, which is then ended with Ctrl-C."""
        words = ["bash", "-c", f"exec {command} --port 0"]
        with subprocess.Popen(words, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, text=True) as page:
            try:
                assert page.stdout
                address = next(found[0] for line in page.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+/", line)))
                with urllib.request.urlopen(f"{address}api/search?q={query}", timeout=60) as answer:
                    return json.load(answer)
            finally:
                page.send_signal(signal.SIGINT)


def commands(page: str) -> list[str]:
    """Every block of commands, and each line of a block that is no document of its own."""
    blocks = re.findall(r"```bash\n(.*?)```", page, flags=re.S)
    return [line.split("  #")[0].strip() for block in blocks for line in ([block] if "<<" in block else block.splitlines())]


@pytest.mark.timeout(1800)
def test_the_commands_of_the_tutorial(root: Path, tmp_path: Path) -> None:
    page = (root / "docs" / "own-videos.md").read_text().split("## The columns")[0]
    index, fetch, search, serve, *training = commands(page)
    reader = Reader(root, tmp_path)
    config = tmp_path / "my-videos.yaml"
    assert "[WEIGHTS]" in reader.types(index, code=1), "the published encoder's weights are not shipped, and nothing stands in for them"
    assert "ViT-B-16.pt" in reader.types(fetch, code=1)
    small_encoder(config, root)
    reader.types(index)
    assert not (tmp_path / "results" / "my-videos" / "runs").exists()
    answer = reader.types(search)
    assert all(part in answer for part in ("trips/beach.mp4", "(zero-shot, clip-b16)", "of unrelated sentences find nothing")), answer
    shown = reader.opens(serve, "a+dog")
    assert {hit["id"] for hit in shown["hits"]} == {"kitchen", "garden", "trips/beach"}
    printed = [reader.types(command) for command in training]
    plan, trained, answer = printed[-3:]
    for part in ("train: 1 videos, 2 queries", "test: 1 videos, 1 queries", "videos     3"):
        assert part in plan, plan
    assert "rule train" in trained
    assert "rule features" not in trained, "what was encoded for the search is used"
    table = (tmp_path / "results" / "my-videos" / "table.md").read_text()
    assert "1 queries of the test split against 1 videos; epochs chosen on val" in table
    assert (tmp_path / "results" / "my-videos" / "report.html").is_file(), "of one video in the gallery too"
    assert "trips/beach" in answer
    assert "zero-shot" not in answer


def test_the_readme_types_what_the_tutorial_does(root: Path) -> None:
    """But for the environment."""
    part = (root / "README.md").read_text().split("## Your own videos")[1].split("\n## ")[0]
    known = commands((root / "docs" / "own-videos.md").read_text())
    assert [line for line in commands(part) if line not in known] == ["source .venv/bin/activate"]


def small_encoder(path: Path, root: Path) -> None:
    """Put the demo's encoder in the place of the published one, whose weights are not here, and shorten the training."""
    encoder = demo_config()["encoders"]["demo-clip-b16"]
    over = {"encoders": {"clip-b16": {**encoder, "weights": str(root / encoder["weights"])}}, "model": MODEL, "training": TRAINING}
    text = path.read_text()
    path.write_text(yaml.safe_dump(merge(yaml.safe_load(text), over), sort_keys=False))
