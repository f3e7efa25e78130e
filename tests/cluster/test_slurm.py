"""The demo on a real Slurm through profiles/slurm: a killed job is retried, Ctrl-C cancels, the next run goes on."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.slurm import Slurm
from tests.workflow.workspace import ROOT, Workspace, demo_config, small

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1500)]
GPU_RULES = {"features", "text", "train", "evaluate"}
# The plugin asks for a job's state after 40 s, then 10 s later each time; there is no accounting here, so squeue has to be named.
QUICK = ("--slurm-init-seconds-before-status-checks", "1", "--slurm-status-command", "squeue", "--latency-wait", "15")


class Run:
    """Snakemake at work in a folder; its output goes to `snakemake.log` there."""

    def __init__(self, work: Workspace, *args: str) -> None:
        self.log = work.folder / "snakemake.log"
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--configfile", "config.yaml"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--workflow-profile", str(ROOT / "profiles" / "slurm"), *QUICK, *args],
                cwd=work.folder,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def until(self, what: str, holds: Callable[[], object], seconds: float = 900) -> None:
        """Wait until something holds; an error when the run ends before."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert self.process.poll() is None, f"ended before {what}\n{self.text()}"
            assert time.monotonic() < deadline, f"not after {seconds} s: {what}\n{self.text()}"
            time.sleep(0.3)

    def wait(self, seconds: float = 900) -> int:
        return self.process.wait(timeout=seconds)

    def text(self) -> str:
        return self.log.read_text()[-6000:]

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


@pytest.fixture
def start() -> Iterator[Callable[..., Run]]:
    """Starts runs that are ended with the test."""
    runs: list[Run] = []

    def begin(*args) -> Run:
        runs.append(Run(*args))
        return runs[-1]

    yield begin
    for run in runs:
        run.stop()


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The smallest demo there is: one shard, one experiment, eight videos."""
    config = small(demo_config(), demo={"train": 4, "val": 2, "test": 2}, experiments={"main": {}}, runtime={"threads": 1})
    config["video"]["shard_size"] = 16
    return Workspace(tmp_path_factory.mktemp("slurm") / "work", config)


def running(slurm: Slurm, rule: str) -> list[str]:
    """Ids of the running jobs of a rule."""
    return [job for job, state, comment in slurm.queue() if state == "RUNNING" and comment.startswith(f"rule_{rule}")]


def minutes(limit: str) -> int:
    """Minutes of Slurm's [days-]hours:minutes:seconds."""
    days, _, clock = limit.rpartition("-")
    hours, mins, _ = (int(part) for part in clock.split(":"))
    return int(days or 0) * 1440 + hours * 60 + mins


def test_to_the_end_with_a_killed_job(slurm: Slurm, work: Workspace, start: Callable[..., Run]) -> None:
    began = time.monotonic()
    run = start(work)
    run.until("frames run", lambda: running(slurm, "frames"))
    slurm.ask("scancel", "--signal=KILL", "--full", running(slurm, "frames")[0])
    assert run.wait() == 0, run.text()
    records = slurm.records()
    by_rule: dict[str, list[dict[str, str]]] = {}
    for record in records:
        by_rule.setdefault(record["Comment"].removeprefix("rule_").split("_wildcards")[0], []).append(record)
    assert set(by_rule) == {*GPU_RULES, "world", "annotations", "frames", "quarantine", "clips", "table"}
    for rule, found in by_rule.items():
        assert {r["Partition"] for r in found} == {"gpu" if rule in GPU_RULES else "cpu"}, rule
        assert {"gres:gpu:1" in r.get("TresPerJob", "") for r in found} == {rule in GPU_RULES}, rule
        assert found[-1]["JobState"] == "COMPLETED", rule
        assert all("cpu=1" in r["TRES"] and "mem=" in r["TRES"] for r in found), rule
    first, second = by_rule["frames"]
    assert first["JobState"] != "COMPLETED"
    assert minutes(second["TimeLimit"]) > minutes(first["TimeLimit"])
    assert megabytes(second) > megabytes(first)
    assert all(len(found) == (3 if rule == "features" else 1) for rule, found in by_rule.items() if rule != "frames")
    assert "zero-shot" in (work.results / "table.md").read_text()
    print(f"to the end in {time.monotonic() - began:.0f} s\n{slurm.report()}")


def megabytes(record: dict[str, str]) -> float:
    """Memory a job was given."""
    number, unit = re.search(r"mem=([\d.]+)([MG])", record["TRES"]).groups()  # type: ignore[union-attr]
    return float(number) * (1024 if unit == "G" else 1)


def test_ctrl_c_cancels_and_the_next_run_goes_on(slurm: Slurm, work: Workspace, start: Callable[..., Run]) -> None:
    if not (work.results / "table.md").exists():
        pytest.skip("the first run did not end")
    shutil.rmtree(work.results / "runs")
    work.config["training"].update(epochs=400, patience=400)
    work.write()
    kept = {path: path.stat().st_mtime_ns for path in [*work.results.rglob("features/**/*.h5"), *work.results.rglob("clips/**/*.h5")]}
    run = start(work)
    last = Path(work.results / "runs" / "main" / "seed9527" / "last.h5")
    run.until("an epoch is on disk", last.exists)
    began = time.monotonic()
    run.process.send_signal(signal.SIGINT)
    assert run.wait(120) != 0
    assert not [job for job in slurm.queue() if job[1] != "COMPLETING"], "Ctrl-C left jobs behind"
    print(f"Ctrl-C took {time.monotonic() - began:.1f} s")
    before = len(slurm.records())

    again = start(work, "--until", "train")
    again.until("training goes on", lambda: running(slurm, "train"))
    log = work.results / "logs" / "train" / "main" / "seed9527.log"
    said = re.compile(r"going on after epoch (\d+)")
    again.until("it goes on after an epoch", lambda: log.exists() and said.search(log.read_text()))
    assert len(slurm.records()) == before + 1, "only the training was left to do"
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    again.stop()
