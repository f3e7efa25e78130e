"""The demo as a newcomer runs it, cut to a few videos: without a network, twice, and then a typed query."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from pipeline.core.store import open_store
from tests.workflow.workspace import Workspace, demo_config, small

pytestmark = pytest.mark.slow

NO_NETWORK = """
import socket

def refuse(self, address, *rest):
    if self.family != socket.AF_UNIX:
        raise RuntimeError(f"the demo touched the network: {address}")
    return connect(self, address, *rest)

connect = socket.socket.connect
socket.socket.connect = refuse
socket.getaddrinfo = lambda *a, **k: (_ for _ in ()).throw(RuntimeError(f"the demo looked up a host: {a}"))
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The demo taken to the end in an environment whose every Python process refuses the network."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "blocked").mkdir()
    (folder / "blocked" / "sitecustomize.py").write_text(NO_NETWORK)
    work = Workspace(folder / "work", small(demo_config()))
    work.snakemake(env={"PYTHONPATH": str(folder / "blocked")})
    return work


def test_every_stage_left_its_hdf5(demo: Workspace) -> None:
    config = demo.config
    for encoder in config["features"]:
        assert list((demo.results / "features" / encoder).glob("*.h5"))
    for experiment in config["experiments"]:
        run = demo.results / "runs" / experiment / f"seed{config['seeds'][0]}"
        with open_store(run / "evaluation.h5", stage="evaluation") as store:
            assert len(store.table("queries")) > 0
        metrics = json.loads((run / "metrics.json").read_text())
        assert metrics["split"] == "test"
        assert metrics["selection_split"] == "val"
    assert "zero-shot" in (demo.results / "table.md").read_text()
    assert not list((demo.results / "frames").rglob("*.h5")), "frames are temporary"


def test_all_three_features_cover_the_same_seconds(demo: Workspace) -> None:
    spans = []
    for encoder in demo.config["features"]:
        with open_store(sorted((demo.results / "features" / encoder).glob("*.h5"))[0], stage="features") as store:
            data = store.ragged("features")
            spans.append((data.ids, data.columns["start"].tolist(), data.columns["end"].tolist()))
    assert len(spans) == 3
    assert spans[0] == spans[1] == spans[2]


def test_a_second_run_has_nothing_to_do(demo: Workspace) -> None:
    assert "Nothing to be done" in demo.snakemake().stdout


def test_edited_code_of_the_world_renders_it_again(demo: Workspace, tmp_path: Path) -> None:
    work = demo.copy(tmp_path / "work")
    world = work.own_project() / "pipeline" / "demo" / "world.py"
    world.write_text(world.read_text() + "\nEDITED = 1\n")
    stages = {"world", "annotations", "frames", "features", "text", "quarantine", "clips", "train", "evaluate", "table", "report"}
    assert set(work.planned()) == stages


def test_every_rule_logs_and_is_timed(demo: Workspace) -> None:
    text = demo.prvr("summary").stdout
    for stage in ("world", "annotations", "frames", "features", "text", "clips", "train", "evaluate", "table"):
        assert f"\n{stage:>11}" in text, stage
    assert "results/demo/table.md" in text
    logs = [p.relative_to(demo.results / "logs").parts[0].removesuffix(".log") for p in (demo.results / "logs").rglob("*.log")]
    assert {"frames", "features", "text", "clips", "train", "evaluate", "table"} <= set(logs)


def test_status_counts_what_is_done(demo: Workspace) -> None:
    assert "train            2/2" in demo.prvr("status").stdout


def test_a_typed_query_is_answered(demo: Workspace) -> None:
    query = pd.read_csv(demo.results / "world" / "queries.csv")["query"][0]
    answer = demo.prvr("search", query, "--top", "3").stdout
    assert len([line for line in answer.splitlines() if "test/" in line or "train/" in line or "val/" in line]) == 3
