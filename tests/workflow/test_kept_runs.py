"""An experiment trained again with other settings, by the real workflow: the former run is kept, tracked, and no part of the plan."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from pipeline.core.kept import formers, hash_of
from pipeline.core.layout import Layout
from tests.core.test_tracking import scalars
from tests.workflow.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


def test_the_former_run_is_kept_and_no_job_depends_on_it(finished: Workspace, tmp_path: Path) -> None:
    work = finished.copy(tmp_path / "work")
    layout, experiments = Layout(work.results), list(work.config["experiments"])
    before = {name: digests(layout.run(name, 9527)) for name in experiments}
    former = {name: hash_of(layout, name, 9527) for name in experiments}
    work.config["training"]["learning_rate"] = 2.0e-3
    work.config["tracking"] = "tensorboard"
    work.write()
    work.snakemake()
    assert {(run.experiment, run.seed, run.run) for run in formers(layout)} == {(name, 9527, run) for name, run in former.items()}
    for run in formers(layout):
        kept = digests(run.folder)
        assert kept == {name: before[run.experiment][name] for name in kept}
        assert {"checkpoint.h5", "training.png", "evaluation.h5", "metrics.json", "recall.png", "run.trec"} <= set(kept)
        assert hash_of(layout, run.experiment, 9527) != run.run
    listed = work.prvr("runs").stdout
    assert "training.learning_rate: 0.001 -> 0.002" in listed
    assert "p = " in work.prvr("runs", "compare", former["main"], hash_of(layout, "main", 9527)).stdout

    tracked = layout.tracking / "tensorboard"
    assert sorted(path.name for path in tracked.iterdir()) == sorted(
        f"{name}-seed9527-{hash_of(layout, name, 9527)}" for name in experiments
    )
    read = scalars(tracked / f"main-seed9527-{hash_of(layout, 'main', 9527)}")
    metrics = json.loads(layout.metrics("main", 9527).read_text())
    assert [step for step, _ in read["train/loss"]] == [1, 2]
    assert read["test/fused/SumR"] == [(metrics["epoch"], pytest.approx(metrics["recalls"]["fused"]["SumR"]))]

    assert dict(work.planned()) == {}
    file = next((layout.root / "kept").rglob("metrics.json"))
    file.unlink()
    assert dict(work.planned()) == {}
    shutil.rmtree(layout.root / "kept")
    assert dict(work.planned()) == {}

    absent = [name for name in ("wandb", "trackio", "mlflow") if importlib.util.find_spec(name) is None]
    if absent:
        work.config["tracking"] = absent[0]
        work.write()
        said = work.snakemake(check=False)
        assert said.returncode != 0
        assert f"[LIBRARY] {absent[0]} is not installed" in said.stdout
        assert f"pip install {absent[0]}" in said.stdout
        assert "rule " not in said.stdout
