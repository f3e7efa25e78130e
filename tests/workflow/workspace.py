"""A small real world to run the real workflow on: rendered videos, the demo's encoders, a tiny model."""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
TRAINING = {"epochs": 2, "batch_videos": 4, "learning_rate": 1.0e-3, "warmup": 0.1}
MODEL = {"hidden": 16, "heads": 2, "widths": [None, 0.5]}


def demo_config() -> dict:
    """The shipped demo's configuration."""
    return yaml.safe_load((ROOT / "config.yaml").read_text())


class Workspace:
    """A folder with a configuration in which the project's own Snakefile is run."""

    def __init__(self, folder: Path, config: dict) -> None:
        self.folder, self.config = folder, config
        self.root, self.cores, self.env = ROOT, 2, {"OMP_NUM_THREADS": "1"}
        self.profile: list[str] | None = None  # options in place of the default profile
        self.seconds = float("nan")  # an undisturbed run took
        folder.mkdir(parents=True, exist_ok=True)
        self.write()

    @property
    def results(self) -> Path:
        return self.folder / "results" / self.config["dataset"]["name"]

    def write(self) -> None:
        """Put the configuration on disk."""
        (self.folder / "config.yaml").write_text(yaml.safe_dump(self.config, sort_keys=False))

    def copy(self, folder: Path) -> Workspace:
        """An independent copy, finished work and Snakemake's memory included."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Workspace(folder, copy.deepcopy(self.config))

    def own_project(self) -> Path:
        """A copy of the project in this workspace, whose files a test may edit; the workflow runs from it."""
        self.root = self.folder / "project"
        ignored = shutil.ignore_patterns("__pycache__", "weights")
        for name in ("pipeline", "workflow", "profiles", "envs"):
            shutil.copytree(ROOT / name, self.root / name, ignore=ignored)
        for name in ("Snakefile", "config.yaml"):
            shutil.copy(ROOT / name, self.root / name)
        (self.root / "pipeline" / "demo" / "weights").symlink_to(ROOT / "pipeline" / "demo" / "weights")
        return self.root

    def command(self, *args: str) -> list[str]:
        return [
            *(sys.executable, "-m", "snakemake", "--snakefile", str(self.root / "Snakefile"), "--configfile", "config.yaml"),
            *(self.profile or ["--workflow-profile", str(self.root / "profiles" / "default")]),
            *("--cores", str(self.cores), *args),
        ]

    def snakemake(self, *args: str, check: bool = True, env: dict | None = None) -> subprocess.CompletedProcess[str]:
        """Run Snakemake here; its whole output is in `stdout`."""
        done = subprocess.run(
            self.command(*args),
            cwd=self.folder,
            env={**os.environ, **self.env, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1200,
        )
        if check:
            assert done.returncode == 0, done.stdout[-6000:]
        return done

    def prvr(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the command line here."""
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.cli", *args],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        if check:
            assert done.returncode == 0, done.stderr[-4000:]
        return done

    def planned(self, *args: str) -> Counter[str]:
        """How many jobs of each rule a run would start now."""
        return jobs(self.snakemake("--dry-run", *args).stdout)


def jobs(output: str) -> Counter[str]:
    """Jobs by rule in Snakemake's output, the target rule left out."""
    found = Counter(re.findall(r"^(?:local)?rule (\w+):", output, flags=re.M))
    found.pop("all", None)
    return found


def small(config: dict, **changes: object) -> dict:
    """The demo's configuration cut to seconds: few videos, a tiny model, two epochs."""
    config = copy.deepcopy(config)
    config["demo"] = {"train": 6, "val": 3, "test": 4}
    config["video"] = {**config.get("video", {}), "shard_size": 8}
    config["training"] = {**config.get("training", {}), **TRAINING}
    config["model"] = {**config.get("model", {}), **MODEL}
    config.update(changes)
    return config
