"""Whole runs of a tiny world, disturbed at random moments again and again: each ends with the results of an undisturbed one.

Run them longer, and see what they print: PRVR_KILLS=100 PRVR_SIGNALS=50 PRVR_LOAD=16 PRVR_DISKS=20 PRVR_SEED=3
make disturbed
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.threads import BUSY
from tests.signals import deliver, threads
from tests.workflow.conftest import own_config
from tests.workflow.interrupting import digests, leftovers, processes, until, whole
from tests.workflow.workspace import Workspace, demo_config, small

KILLS, SIGNALS, LOAD, DISKS, SEED = (
    int(os.environ.get(name, default))
    for name, default in (("PRVR_KILLS", 4), ("PRVR_SIGNALS", 3), ("PRVR_LOAD", 4), ("PRVR_DISKS", 2), ("PRVR_SEED", 11))
)
pytestmark = [pytest.mark.slow, pytest.mark.disturbed, pytest.mark.timeout(7200 + 300 * max(KILLS, SIGNALS, DISKS))]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Eight videos in two shards, one encoder, one training, taken to the end. Do not change it: copy it."""
    base = tmp_path_factory.mktemp("tiny")
    demo = Workspace(base / "demo", small(demo_config(), demo={"train": 4, "val": 2, "test": 2}))
    demo.prvr("world", "--threads", "2")
    config = own_config(base)
    config["encoders"] = {"demo-clip-b16": config["encoders"]["demo-clip-b16"]}
    config |= {"features": ["demo-clip-b16"], "experiments": {"main": {}}}
    config["video"]["shard_size"] = 4
    (base / "own" / "data").mkdir(parents=True)
    for name in ("videos", "queries.csv"):
        (demo.results / "world" / name).rename(base / "own" / "data" / name)
    own = Workspace(base / "own", config)
    began = time.monotonic()
    own.snakemake()
    own.seconds = time.monotonic() - began
    return own


@pytest.fixture
def work(tiny: Workspace, tmp_path: Path) -> Workspace:
    """A copy without any result."""
    copied = tiny.copy(tmp_path / "work")
    copied.seconds = tiny.seconds
    wipe(copied)
    return copied


def wipe(work: Workspace) -> None:
    for place in [*(work.folder / "results").iterdir(), work.folder / ".snakemake"]:
        shutil.rmtree(place)


def disturb(
    work: Workspace, expected: dict[str, str], count: int, start: Callable[..., subprocess.Popen], how: Callable[[subprocess.Popen], None]
) -> int:
    """Disturb runs at random moments, each going on where the one before was; start over, and compare, whenever one comes to its end.

    The moments follow the length of an undisturbed run here, so all stages are hit on any machine. Returns the runs that ended.
    """
    moment, done, ended = random.Random(SEED), 0, 0
    while done < count:
        run = start(work)
        try:
            # Snakemake needs a tenth of the run to start; later moments let the run get on.
            assert run.wait(timeout=moment.uniform(0.02, 0.4) * work.seconds) == 0
        except subprocess.TimeoutExpired:
            how(run)
            done += 1
            until(lambda: processes(work) == [], 60)  # the kernel takes its time on a busy machine
            whole(work)
        else:
            assert digests(work) == expected
            wipe(work)
            ended += 1
    work.snakemake()
    assert digests(work) == expected
    assert leftovers(work) == []
    return ended + 1


def test_killed(tiny: Workspace, work: Workspace, start: Callable[..., subprocess.Popen]) -> None:
    """The whole process group."""

    def kill(run: subprocess.Popen) -> None:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        until(lambda: processes(work) == [], 60)
        work.prvr("unlock")

    ended = disturb(work, digests(tiny), KILLS, start, kill)
    print(f"\n{KILLS} kills, {ended} runs to the end, all with the results of the undisturbed one ({tiny.seconds:.0f} s)")


@pytest.fixture
def load() -> Iterator[None]:
    """Other work on the machine."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(LOAD)]
    yield
    for process in busy:
        process.kill()
        process.wait()


def test_asked_to_end_under_load(tiny: Workspace, work: Workspace, load: None, start: Callable[..., subprocess.Popen]) -> None:
    """SIGTERM to Snakemake alone, given to any of its threads: it ends within seconds, its jobs with it, and the folder is not locked."""
    expected, chosen, took = digests(tiny), random.Random(SEED), list[float]()
    began = time.monotonic()
    assert start(work).wait() == 0  # as the disturbed ones are started: in a session of its own, which has its own share of the machine
    work.seconds = time.monotonic() - began  # under this load
    assert digests(work) == expected
    wipe(work)

    def ask(run: subprocess.Popen) -> None:
        asked = time.monotonic()
        with contextlib.suppress(ProcessLookupError):  # it came to its end just now
            deliver(run.pid, chosen.choice(threads(run.pid)), signal.SIGTERM)
        run.wait(timeout=120)
        took.append(time.monotonic() - asked)
        until(lambda: processes(work) == [], 60)
        assert not list((work.folder / ".snakemake").glob("locks/*"))
        assert not list(work.results.rglob(".*.tmp"))

    ended = disturb(work, expected, SIGNALS, start, ask)
    took.sort()
    print(
        f"\n{SIGNALS} times SIGTERM beside {LOAD} busy processes, {ended} runs to the end, all with the results of the undisturbed one "
        f"({work.seconds:.0f} s); ended after {took[len(took) // 2]:.1f} s (median), {took[-1]:.1f} s at most"
    )
    assert took[-1] < 60


@pytest.fixture
def disk(work: Workspace) -> Iterator[Callable[[int], None]]:
    """The results on a file system of their own; a call gives it another size."""
    place = work.folder / "results"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "none", str(place)], capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk is not allowed here (it needs root)")
    try:
        yield lambda size: subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True) and None
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_out_of_disk(tiny: Workspace, work: Workspace, disk: Callable[[int], None]) -> None:
    """The disk is full, then made a little larger, again and again."""
    expected, room, full, ended = digests(tiny), random.Random(SEED), 0, 0
    needed = sum(path.stat().st_size for path in tiny.results.rglob("*") if path.is_file())
    while full < DISKS:
        disk(shutil.disk_usage(work.folder / "results").used + room.randrange(4096, needed // 2))
        run = work.snakemake(check=False)
        if run.returncode == 0:
            assert digests(work) == expected
            wipe(work)
            ended += 1
            continue
        full += 1
        assert "No space left on device" in run.stdout, run.stdout[-3000:]
        assert "Segmentation fault" not in run.stdout
        assert not list(work.results.rglob(".*.tmp"))
        whole(work)
    disk(1 << 30)
    work.snakemake()
    assert digests(work) == expected
    assert leftovers(work) == []
    print(f"\n{full} times out of disk, {ended + 1} runs to the end, all with the results of the undisturbed one ({needed / 1e6:.1f} MB)")
