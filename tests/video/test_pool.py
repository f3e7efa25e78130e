"""A file that hangs, crashes or eats memory costs only itself; processes end with their parent."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from pipeline.config.streams import Stream
from pipeline.core.errors import DecoderError, DiskError
from pipeline.video import pool
from pipeline.video.messages import Again, Job, Outcome, Row
from pipeline.video.pool import Pool
from pipeline.video.specimens import SPECIMENS, Specimen, make

STILL = Stream(0.5, "middle", 32)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(SPECIMENS[0], tmp_path_factory.mktemp("clip"))


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "worker", SimpleNamespace(__name__="tests.video.stub_worker"))


def run(
    clip: Path, folder: Path, *names: str, workers: int = 1, timeout: float = 30.0, decoder: str = "pyav", memory_mb: int = 4096
) -> dict[str, Outcome]:
    jobs = []
    for name in names:
        path = folder / f"{name}.mp4"
        shutil.copy(clip, path)
        jobs.append(Job(name, (str(path),), {STILL.name: STILL.recipe}, folder / f"of {name}", decoder=decoder))
    with Pool(workers, timeout=timeout, timeout_per_second=0.01, memory_mb=memory_mb) as processes:
        outcomes = {outcome.job.video_id: outcome for outcome in processes.run(jobs)}
    assert set(outcomes) == set(names)
    return outcomes


@pytest.mark.usefixtures("stub")
@pytest.mark.parametrize("workers", [1, 2])
def test_each_fault_costs_only_itself(clip: Path, tmp_path: Path, workers: int) -> None:
    names = ["good 1", "hang", "good 2", "crash", "good 3", "greedy", "bad_alloc", "good 4", "strange", "shot", "shot always", "good 5"]
    outcomes = run(clip, tmp_path, *names, workers=workers, timeout=4.0)
    codes = {name: outcome.code for name, outcome in outcomes.items()}
    assert codes == {
        **{f"good {i}": "" for i in range(1, 6)},
        "hang": "TIMEOUT",
        "crash": "DECODE_ERROR",
        "greedy": "OUT_OF_MEMORY",
        "bad_alloc": "OUT_OF_MEMORY",
        "strange": "DECODE_ERROR",
        "shot": "",  # killed by someone else: tried once more
        "shot always": "OUT_OF_MEMORY",  # as the kernel does when memory runs out
    }
    assert "SIGABRT" in outcomes["crash"].message
    assert (tmp_path / "of good 5" / f"{STILL.name}.frames").stat().st_size == 4 * 32 * 32 * 3


@pytest.mark.parametrize("shots", [4, 10])
def test_killed_while_it_starts_a_process_is_replaced(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shots: int) -> None:
    left = [signal.SIGKILL] * shots

    class Shot(pool._Child):
        def __init__(self, memory_mb: int) -> None:
            super().__init__(memory_mb)
            if left:
                self.process.send_signal(left.pop())

    monkeypatch.setattr(pool, "_Child", Shot)
    monkeypatch.setattr(pool, "_PAUSE", 0.0)
    if shots < pool._KILLED_TRIES:
        assert run(clip, tmp_path, "one", "two")["two"].code == ""
    else:
        with pytest.raises(DecoderError, match=r"does not start \(exit -9\)"):
            run(clip, tmp_path, "one", "two")


def test_all_killed_again_and_again(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a sweep that takes those who start too, by any of the signals that end a process."""
    ways = [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT] * 3

    class Shot(pool._Child):
        def __init__(self, memory_mb: int) -> None:
            super().__init__(memory_mb)
            if ways:
                self.process.send_signal(ways.pop())

    monkeypatch.setattr(pool, "_Child", Shot)
    monkeypatch.setattr(pool, "_PAUSE", 0.0)
    outcomes = run(clip, tmp_path, "one", "two", "three", "four", workers=4)
    assert not any(outcome.code for outcome in outcomes.values())


@pytest.mark.usefixtures("stub")
def test_decords_hangs_and_crashes_are_read_again(clip: Path, tmp_path: Path) -> None:
    outcomes = run(clip, tmp_path, "decord hang", "decord crash", timeout=4.0, decoder="decord")
    assert {name: (o.code, o.decoder, o.reason) for name, o in outcomes.items()} == {
        "decord hang": ("", "pyav", "decord did not finish in 4 s"),
        "decord crash": ("", "pyav", "decord crashed (SIGABRT)"),
    }


@pytest.mark.usefixtures("stub")
def test_a_full_disk_is_not_the_videos_fault(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="No space left"):
        run(clip, tmp_path, "full")


def test_memory_limit_holds_in_the_decoder(tmp_path: Path) -> None:
    large = make(Specimen("large", "large.mkv", "ffv1", frames=2, size=(6000, 6000)), tmp_path)
    (outcome,) = run(large, tmp_path, "large too", memory_mb=60).values()
    assert outcome.code == "OUT_OF_MEMORY"


def test_one_process_serves_many_videos(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    real = subprocess.Popen

    def popen(*args: object, **kwargs: object) -> subprocess.Popen:
        process = real(*args, **kwargs)  # type: ignore[call-overload]
        started.append(process.pid)
        return process

    monkeypatch.setattr(pool.subprocess, "Popen", popen)
    outcomes = run(clip, tmp_path, *(str(i) for i in range(20)))
    assert not any(outcome.code for outcome in outcomes.values())
    assert len(started) == 1
    assert not psutil.pid_exists(started[0])


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_orphans(clip: Path, tmp_path: Path, root: Path, how: signal.Signals) -> None:
    hang = tmp_path / "hang.mp4"
    shutil.copy(clip, hang)
    parent = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        from types import SimpleNamespace
        from pipeline.video import pool
        pool.worker = SimpleNamespace(__name__="tests.video.stub_worker")
        job = pool.Job("hang", ({str(hang)!r},), {{"s": {STILL.recipe!r}}}, Path({str(tmp_path / "of hang")!r}))
        with pool.Pool(1, timeout=600, timeout_per_second=1, memory_mb=4096) as processes:
            real = pool._Child.messages
            def messages(child):
                found = real(child)
                if any("seconds" in message for message in found or []):
                    print(child.process.pid, flush=True)
                return found
            pool._Child.messages = messages
            list(processes.run([job]))
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", parent], cwd=root, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(root)}
    )
    assert process.stdout is not None
    child = psutil.Process(int(process.stdout.readline()))  # it is decoding now
    process.send_signal(how)
    process.wait(20)
    deadline = time.monotonic() + 20
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def rows_of(clip: Path) -> Job:
    """A job without a folder, of more rows than a pipe holds."""
    large = Stream(0.04, "middle", 224)
    return Job("rows", (str(clip),), {large.name: large.recipe})


def test_rows_come_one_by_one(clip: Path, tmp_path: Path) -> None:
    """The frames a file would hold, after the word that the video begins; a row of a window holds its frames, repeated ones too."""
    looks = [Stream(0.1, "middle", 32), Stream(0.4, "window", 24, 8, 60.0, 1)]
    streams = {look.name: look.recipe for look in looks}
    with Pool(1, timeout=60, timeout_per_second=1, memory_mb=4096) as processes:
        first, *rows, last = list(processes.run([Job("rows", (str(clip),), streams)]))
        list(processes.run([Job("file", (str(clip),), streams, tmp_path / "file")]))
    assert isinstance(first, Again)
    assert isinstance(last, Outcome)
    assert (last.code, last.sums) == ("", {})
    for look in looks:
        frames = np.fromfile(tmp_path / "file" / f"{look.name}.frames", np.uint8).reshape(-1, look.size, look.size, 3)
        windows = np.load(tmp_path / "file" / f"{look.name}.windows.npy")
        given = [row.frames for row in rows if isinstance(row, Row) and row.stream == look.name]
        np.testing.assert_array_equal(np.stack(given).reshape(*windows.shape, look.size, look.size, 3), frames[windows])
    assert len(np.unique(windows)) < windows.size


def test_a_slow_reader_takes_no_time_from_the_decoding(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on by 1000 s at every row, where a video may take 60: the process waits for its reader, it does not hang."""
    late = 0.0
    monkeypatch.setattr(pool, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + late, sleep=time.sleep))
    codes: list[str] = []
    with Pool(1, timeout=60, timeout_per_second=0.01, memory_mb=4096) as processes:
        for event in processes.run([rows_of(clip)]):
            late += 1000 * isinstance(event, Row)
            codes += [event.code] if isinstance(event, Outcome) else []
    assert late > 20_000
    assert codes == [""]


def test_outcomes_end_when_nobody_wants_them(clip: Path) -> None:
    stop = threading.Event()
    with Pool(1, timeout=600, timeout_per_second=1, memory_mb=4096, stop=stop) as processes:
        for event in processes.run([rows_of(clip)] * 3):
            assert not isinstance(event, Outcome)
            stop.set()
