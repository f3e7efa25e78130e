"""What docs/extending.md adds by one file runs through the workflow, and re-runs nothing of the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.core.store import open_store
from tests.workflow import extending
from tests.workflow.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
ITS_RUN = {"train": 1, "evaluate": 1, "table": 1, "report": 1}


def metrics(work: Workspace, experiment: str = "mine") -> dict:
    return json.loads((work.results / "runs" / experiment / "seed9527" / "metrics.json").read_text())


def weights(work: Workspace, experiment: str = "mine") -> set[str]:
    with open_store(work.results / "runs" / experiment / "seed9527" / "checkpoint.h5", stage="checkpoint") as store:
        return {name.removeprefix("model/") for name in store.names("model")}


def edit(file: Path) -> None:
    file.write_text(file.read_text() + "\nEDITED = 1\n")


def edit_ours(work: Workspace, name: str) -> None:
    copied = work.folder / "project"
    edit((copied if copied.exists() else work.own_project()) / "pipeline" / name)


def test_a_retrieval_model(finished: Workspace, tmp_path: Path) -> None:
    work = finished.copy(tmp_path / "work")
    before = {path: path.read_bytes() for path in (work.results / "runs").rglob("checkpoint.h5")}
    file = extending.add(work, "A retrieval model")
    assert dict(work.planned()) == ITS_RUN
    work.snakemake()
    assert {path: path.read_bytes() for path in before} == before
    measured = metrics(work)
    assert (measured["model"], measured["branches"], measured["fusion"]) == ("my_package.mean_clips", ["clip"], {"clip": 1.0})
    assert measured["recalls"]["fused"] == measured["recalls"]["clip"]
    assert weights(work) == {"video.1.weight", "video.1.bias", "query.weight", "query.bias"}
    hits = work.prvr("search", "a red box that sinks", "--experiment", "mine", "--config", "config.yaml").stdout
    assert len(hits.splitlines()) >= 3
    edit(file)
    assert dict(work.planned()) == ITS_RUN
    work.snakemake()
    edit_ours(work, "models/msc.py")
    assert dict(work.planned()) == {"train": 2, "evaluate": 2, "table": 1, "report": 1}  # main and no-motion


def test_an_objective(finished: Workspace, tmp_path: Path) -> None:
    work = finished.copy(tmp_path / "work")
    file = extending.add(work, "An objective")
    assert dict(work.planned()) == ITS_RUN
    work.snakemake()
    assert weights(work) == weights(work, "main")  # its own parameter is not part of the model
    with open_store(work.results / "runs" / "mine" / "seed9527" / "checkpoint.h5", stage="checkpoint") as store:
        assert "apart" in store.table("history")
    edit(file)
    assert dict(work.planned()) == ITS_RUN
    work.snakemake()
    edit_ours(work, "objectives/cbva.py")
    assert dict(work.planned()) == {"train": 3, "evaluate": 3, "table": 1, "report": 1}
    work.config["experiments"]["mine"]["objectives"]["cbva"] = {"weight": 0}
    work.write()
    work.snakemake()
    edit_ours(work, "objectives/vcp.py")
    assert dict(work.planned()) == {}  # which nobody uses


def test_a_model_that_cannot_be_trained_is_refused_by_name(finished: Workspace, tmp_path: Path) -> None:
    work = finished.copy(tmp_path / "work")
    extending.add(work, "A retrieval model")
    work.config["experiments"]["mine"]["objectives"] = {}
    work.write()
    said = work.snakemake("--until", "train", check=False)
    assert said.returncode
    log = (work.results / "logs" / "train" / "mine" / "seed9527.log").read_text()
    assert "objectives.cbva needs video.aligned_clips, video.aligned_frames, which 'my_package.mean_clips' on this data" in log
    work.config["experiments"]["mine"]["model"] = {"kind": "my_package.no_such_model"}
    work.write()
    assert "put my_package/no_such_model.py there" in work.snakemake("-n", check=False).stdout
    work.config["experiments"]["mine"]["model"] = {"kind": "my_package.mean_clips", "droppout": 0.5}
    work.write()
    assert "droppout" in work.snakemake("-n", check=False).stdout
