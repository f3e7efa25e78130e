"""Speeds of this machine, measured in seconds, against what a finished run took in processor seconds, whatever else the machine does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from pipeline.config.reading import load
from pipeline.jobs.dag import Dag
from pipeline.jobs.estimates import Costs, Machine, Speeds
from pipeline.jobs.headers import sampled
from pipeline.jobs.lengths import Lengths
from pipeline.jobs.stages import STAGES
from pipeline.tools import speeds
from pipeline.tools.plan import plan
from tests.workflow.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
FACTOR = 2.0  # between what a run is said to take and what it took
COMPUTING = ("frames", "features", "text", "train")  # stages that were tried


def test_measured_once_and_within_a_factor_of_two_of_the_run(work: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speeds, "LIMIT", 900.0)  # by the clock, on a machine that may be busy
    dag = Dag.of(load("config.yaml"))
    found, said = speeds.known(dag, "config.yaml")
    assert found is not None, said
    assert said.startswith("measured in ")
    assert found.decode is not None
    assert set(found.row) == set(dag.encoders_to_run())
    assert set(found.query) == {"demo-clip-b16"}
    assert set(found.step) == {Speeds.key(dag.experiment(name)) for name, _ in dag.runs("table")}
    again, said = speeds.known(dag, "config.yaml")
    assert again == found
    assert said.startswith("measured before")
    assert len(list((tmp_path / "cache" / "prvr" / "speeds").iterdir())) == 1

    guess, pixels, _ = sampled(dag.members({}))
    costs = Costs(dag, Machine(1, gpu=False), pixels, found)
    lengths = Lengths(dag, guess, sum(dag.listing.queries.values()))
    expected = took = 0.0
    for stage in (STAGES[name] for name in COMPUTING):
        for of in stage.jobs(dag):
            expected += stage.needs(costs, lengths.load(of), of).seconds
            took += float(pd.read_csv(stage.benchmark(dag.layout, of), sep="\t")["cpu_time"].iloc[0])
    assert took / FACTOR < expected < took * FACTOR


def test_a_plan_says_what_was_tried_and_a_flag_leaves_it_out(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    for gone in ("features/demo-clip-b16", "clips", "runs"):  # what is needed by nobody is not made again
        shutil.rmtree(work.results / gone)
    for path in (work.results / "benchmarks").rglob("*.tsv"):
        path.unlink()
    asked: list[Dag] = []

    def known(dag: Dag, config_file: str | Path) -> tuple[Speeds, str]:
        asked.append(dag)
        return Speeds(row={"demo-clip-b16": 100.0}), "measured in 3 s, kept in FILE"

    monkeypatch.setattr("pipeline.tools.plan.known", known)
    dag = Dag.of(load("config.yaml"))
    without, measured = plan(dag, "config.yaml", cores=2), plan(dag, "config.yaml", cores=2, measure=True)
    assert len(asked) == 1
    (slow,) = [row for row in measured.rows if row.name == "features demo-clip-b16"]
    (guessed,) = [row for row in without.rows if row.name == "features demo-clip-b16"]
    assert (slow.sampled, guessed.sampled, slow.measured) == (True, False, False)
    assert slow.seconds > 1000 > guessed.seconds
    assert "min ~" in measured.text() or "h ~" in measured.text()
    assert "measured in 3 s, kept in FILE" in measured.text()
    assert "~ " not in without.text().split("Times:")[0]


def test_another_machine_or_configuration_is_measured_again(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, 0, stdout=json.dumps({"decode": 0.5}) + "\n", stderr="")

    monkeypatch.setattr(speeds.subprocess, "run", run)
    dag = Dag.of(load("config.yaml"))
    assert [speeds.known(dag, "config.yaml")[0] for _ in range(2)] == [Speeds(decode=0.5)] * 2
    assert len(ran) == 1
    work.config["training"]["batch_videos"] = 3
    work.write()
    speeds.known(Dag.of(load("config.yaml")), "config.yaml")
    monkeypatch.setattr(speeds, "machine", lambda: {"host": "another"})
    speeds.known(dag, "config.yaml")
    assert len(ran) == 3


@pytest.mark.parametrize("said", ["", "no JSON", '{"colour": 1}'])
def test_a_measurement_that_fails_leaves_the_arithmetic_and_says_so(work: Workspace, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    failed = subprocess.CompletedProcess([], 1, stdout=said, stderr="Traceback ...\nRuntimeError: no such device\n")
    monkeypatch.setattr(speeds.subprocess, "run", lambda *_, **__: failed)
    found, why = speeds.known(Dag.of(load("config.yaml")), "config.yaml")
    assert found is None
    assert why == "nothing could be measured: RuntimeError: no such device"


def test_a_measurement_that_takes_too_long_gives_what_it_has_and_is_not_kept(
    work: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout, output=b'{"decode": 0.5}\n{"decode": 0.5, "ro')

    monkeypatch.setattr(speeds.subprocess, "run", run)
    found, why = speeds.known(Dag.of(load("config.yaml")), "config.yaml")
    assert found == Speeds(decode=0.5)
    assert why == "not everything could be measured: not done in 180 s"
    assert not (tmp_path / "cache").exists()


def test_the_workflow_reads_estimates_without_torch() -> None:
    program = "import sys, pipeline.jobs.resources, pipeline.jobs.display, pipeline.jobs.estimates; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_arithmetic_stands_where_nothing_was_measured(work: Workspace) -> None:
    dag = Dag.of(load("config.yaml"))
    plain = Costs(dag, Machine(1, gpu=False))
    measured = replace(plain, speeds=Speeds(row={"another": 1.0}))
    loads = Lengths(dag, 10.0)
    for stage in STAGES.values():
        for of in stage.jobs(dag):
            assert stage.needs(plain, loads.load(of), of) == stage.needs(measured, loads.load(of), of)
