"""Killed, cut off, or out of disk at any moment, the workflow goes on and ends with the results of an undisturbed run."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.signals import deliver, threads
from tests.workflow.interrupting import digests, leftovers, processes, until, whole
from tests.workflow.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]


@pytest.fixture
def encoding(finished: Workspace, tmp_path: Path) -> Workspace:
    """A copy in which everything is to be decoded and encoded again."""
    work = finished.copy(tmp_path / "work")
    shutil.rmtree(work.results / "features")
    return work


@pytest.fixture
def training(finished: Workspace, tmp_path: Path) -> Workspace:
    """A copy in which a training of many epochs is to be run."""
    work = finished.copy(tmp_path / "work")
    shutil.rmtree(work.results / "runs")
    (work.results / "table.md").unlink()
    work.config["training"].update(epochs=5000, patience=5000)
    work.write()
    return work


def trains(work: Workspace) -> bool:
    return any((work.results / "runs").rglob("last.h5"))


def decodes(work: Workspace) -> bool:
    """Some video of a shard is decoded, another is not."""
    spooled = [path.suffix for path in work.results.glob("frames/.*.spool/*")]
    return "" in spooled and ".part" in spooled


def test_snakemake_alone_killed(finished: Workspace, training: Workspace, start: Callable[..., subprocess.Popen]) -> None:
    run = start(training)
    until(lambda: trains(training))
    refused = training.prvr("unlock", check=False)
    assert refused.returncode == 2
    assert "a run is at work here" in refused.stderr
    run.kill()
    run.wait()
    second = training.snakemake(check=False)
    assert second.returncode != 0
    assert "locked" in second.stdout
    refused = training.prvr("unlock", check=False)
    assert refused.returncode == 2
    assert "jobs of a killed run still compute" in refused.stderr
    assert f"process {run.pid} on" in training.prvr("unlock", "--stop").stdout
    assert processes(training) == []
    assert training.prvr("unlock").stdout == "not locked\n"
    training.config = finished.config
    training.write()
    training.snakemake()
    assert digests(training) == digests(finished)


def test_a_job_killed(finished: Workspace, encoding: Workspace, start: Callable[..., subprocess.Popen]) -> None:
    run = start(encoding, "extract")
    until(lambda: decodes(encoding))
    next(p for p in processes(encoding, "pipeline.cli frames") if "python" in p.name()).kill()
    assert run.wait(timeout=200) != 0
    assert processes(encoding) == [], "decoding processes outlived their job"
    whole(encoding)
    encoding.snakemake("extract")
    assert digests(encoding, "features") == digests(finished, "features")


def test_a_decoding_process_killed(finished: Workspace, encoding: Workspace, start: Callable[..., subprocess.Popen]) -> None:
    run = start(encoding, "extract")
    until(lambda: decodes(encoding))
    processes(encoding, "pipeline.video.worker")[0].kill()
    assert run.wait(timeout=200) == 0, "a decoding process is replaced"
    assert digests(encoding, "features") == digests(finished, "features")
    assert leftovers(encoding) == []


def ends(run: subprocess.Popen, work: Workspace) -> float:
    """Seconds the run takes to end in good order after it was asked to."""
    asked = time.monotonic()
    assert run.wait(timeout=60) != 0
    took = time.monotonic() - asked
    until(lambda: processes(work) == [], 10)
    assert not list((work.folder / ".snakemake").glob("locks/*"))
    whole(work)
    return took


# To a process, whose kernel chooses the thread; to the last of its threads, which is no other than any but the main one; to all of a group.
@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "SIGTERM, another thread", "SIGINT, another thread"])
def test_ends_within_seconds(training: Workspace, start: Callable[..., subprocess.Popen], how: str) -> None:
    run = start(training)
    until(lambda: trains(training))
    if how == "Ctrl-C":
        os.killpg(run.pid, signal.SIGINT)  # a terminal sends it to the whole group
    elif how == "SIGTERM":
        run.terminate()
    else:
        deliver(run.pid, threads(run.pid)[-1], signal.Signals[how.split(",")[0]])
    assert ends(run, training) < 30


def test_terminal_closed(training: Workspace, start: Callable[..., subprocess.Popen]) -> None:
    """The kernel sends SIGHUP to the terminal's processes, and whoever writes to it from then on gets an error."""
    ours, theirs = pty.openpty()
    run = start(training, terminal=theirs)
    os.close(theirs)
    said = b""
    while not trains(training):  # a terminal that nobody reads blocks its writers
        if select.select([ours], [], [], 0.05)[0]:
            said += os.read(ours, 1 << 16)
    assert b"rule train" in said
    os.close(ours)
    assert ends(run, training) < 30


@pytest.mark.long
def test_terminal_closed_under_nohup(finished: Workspace, encoding: Workspace, start: Callable[..., subprocess.Popen]) -> None:
    run = start(encoding, "extract", before=["nohup"])
    until(lambda: decodes(encoding))
    os.killpg(run.pid, signal.SIGHUP)
    assert run.wait(timeout=900) == 0
    assert digests(encoding, "features") == digests(finished, "features")


@pytest.fixture
def disk(encoding: Workspace) -> Iterator[Callable[[str], None]]:
    """The results on a file system of their own, which a call mounts anew with other options."""
    place, kept = encoding.folder / "results", encoding.folder / "kept"
    place.rename(kept)
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "none", str(place)], capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk is not allowed here (it needs root)")
    try:
        shutil.copytree(kept, place, dirs_exist_ok=True)
        yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True) and None
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_disk_full(finished: Workspace, encoding: Workspace, disk: Callable[[str], None]) -> None:
    used = shutil.disk_usage(encoding.folder / "results").used
    disk(f"size={used + 300_000}")
    failed = encoding.snakemake("extract", check=False)
    assert failed.returncode != 0
    assert "No space left on device" in failed.stdout
    whole(encoding)
    disk("size=200m")
    encoding.snakemake("extract")
    assert digests(encoding, "features") == digests(finished, "features")
    assert leftovers(encoding) == []


def test_read_only_folder(encoding: Workspace, disk: Callable[[str], None]) -> None:
    encoding.config["training"]["learning_rate"] = 2.0e-3
    encoding.write()
    disk("ro")
    failed = encoding.snakemake(check=False)
    assert failed.returncode != 0
    assert "[DISK] Read-only file system" in failed.stdout
    assert "rule " not in failed.stdout
    disk("rw")
    assert encoding.planned()
