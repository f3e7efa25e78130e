"""A small world-1 through the workflow: the truth the generator knows is measured beside R@K, and nothing runs twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config.inputs import Demo
from pipeline.demo.world import relevant
from tests.workflow.workspace import ROOT, Workspace, demo_config, small

pytestmark = pytest.mark.slow


def test_from_a_seed_to_complete_relevance(tmp_path: Path) -> None:
    config = small(demo_config(), demo={"world": "world-1", "seed": 1, "train": 4, "val": 2, "test": 3})
    config["evaluation"]["relevance"] = "generated"
    config |= {
        "encoders": {"demo-clip-b16": config["encoders"]["demo-clip-b16"]},
        "features": ["demo-clip-b16"],
        "experiments": {"main": {}},
    }
    work = Workspace(tmp_path / "work", config)
    work.snakemake()

    answers = {query: videos for query, videos in relevant(Demo(**config["demo"])).items() if query.startswith("test/")}
    measured = json.loads((work.results / "runs/main/seed9527/metrics.json").read_text())["relevance"]
    assert measured["queries"] == len(answers)
    assert measured["mean"] == pytest.approx(sum(map(len, answers.values())) / len(answers))
    assert measured["own_not_relevant"] == measured["outside"] == 0
    assert "Nothing to be done" in work.snakemake("--dry-run").stdout

    command = [sys.executable, "-m", "benchmarks.world", "--configfile", "config.yaml"]
    printed = subprocess.run(
        command, cwd=work.folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    rows = {
        cells[0]: cells[1:] for line in printed.stdout.splitlines() if len(cells := [c.strip() for c in line.strip("|").split("|")]) > 1
    }
    assert rows["videos"] == ["4", "2", "3"]
    assert float(rows["chance"][0]) < float(rows["oracle"][0]) <= 100
    assert float(rows["one video's queries"][0].split()[0]) <= 1
    assert 0 < float(rows["clip borders, F1"][0].split()[0]) <= 1
