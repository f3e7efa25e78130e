"""A signal is noticed whichever thread it is given to."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.signals import deliver, threads

pytestmark = pytest.mark.timeout(60)
# The main thread sits in a lock for ever, as Snakemake's scheduler does; others sleep, compute, and wait for a child.
PROGRAM = """
import os, signal, subprocess, sys, threading, time
from pipeline.core.signals import ENDING, attend
{before}
say = lambda *words: os.write(1, (" ".join(map(str, words)) + chr(10)).encode())
attend(ENDING, {handler}, at_once=lambda number: say("noticed", number))
def compute():
    while True: pass
for work in (lambda: time.sleep(600), compute, lambda: subprocess.run(["sleep", "600"])):
    threading.Thread(target=work, daemon=True).start()
print("ready", flush=True)
{wait}
"""
LEAVE = "lambda number: sys.exit(number)"
WAITS = {
    "lock": "threading.Semaphore(0).acquire()",
    "poll": "import selectors; selectors.DefaultSelector().select(600)",
    "child": "subprocess.run(['sleep', '600'])",
    "computing": "while True: pass",
    "logging": "writer.info('a line')\nthreading.Semaphore(0).acquire()",
}
# Snakemake's own writer, which drops the exceptions that end a run, in front of a slow file.
LOGGING = """
import logging, time
from snakemake.logging import ColorizingTextHandler
class Slow:
    def write(self, text): time.sleep(2)
    def flush(self): pass
writer = logging.getLogger("a run"); writer.setLevel(logging.INFO)
writer.addHandler(ColorizingTextHandler(stream=Slow()))
"""


SETTLED = 0.3  # seconds after which the threads wait in the kernel


def start(wait: str, handler: str = LEAVE, before: str = "") -> subprocess.Popen[str]:
    program = PROGRAM.format(wait=wait, handler=handler, before=before)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(SETTLED)
    return process


def end(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("wait", WAITS)
def test_given_to_another_thread(number: signal.Signals, wait: str) -> None:
    process = start(WAITS[wait], before=LOGGING if wait == "logging" else "")
    try:
        deliver(process.pid, threads(process.pid)[-1], number)
        assert process.wait(20) == number
    finally:
        end(process)


@pytest.mark.slow
def test_started_where_they_are_ignored(root: Path) -> None:
    """As by `nohup` and in a script's background, whose children inherit it: what a test starts listens (tests/conftest.py)."""
    these = f"{__file__}::{test_given_to_another_thread.__name__}"
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "poll", these]
    done = subprocess.run(
        ["bash", "-c", "trap '' INT HUP; exec \"$@\"", "bash", *words], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_given_to_each_thread_in_turn() -> None:
    """The process goes on after each, and notices the next."""
    process = start("while True: threading.Semaphore(0).acquire()", handler="lambda number: say('handled', number)")
    assert process.stdout is not None
    try:
        all_threads = threads(process.pid)
        assert len(all_threads) >= 5  # the main one, the three of the program, and ours
        for thread in all_threads:
            for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
                deliver(process.pid, thread, number)
                assert {process.stdout.readline() for _ in range(2)} == {f"noticed {number}\n", f"handled {number}\n"}
    finally:
        end(process)


def test_what_is_ignored_stays_ignored() -> None:
    """As under `nohup`, and SIGINT of a script's job in the background."""
    before = "import os; signal.signal(signal.SIGHUP, signal.SIG_IGN); signal.signal(signal.SIGINT, signal.SIG_IGN)"
    process = start(WAITS["lock"], before=before)
    try:
        for thread in threads(process.pid):
            deliver(process.pid, thread, signal.SIGHUP)
            deliver(process.pid, thread, signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None
        process.terminate()
        assert process.wait(20) == signal.SIGTERM
    finally:
        end(process)


def test_a_childs_signal_is_not_its_parents() -> None:
    """A forked child shares the descriptor of the parent until it forgets it."""
    before = """
def fork():
    import os, time
    time.sleep(0.5)
    if not (child := os.fork()):
        print("child", os.getpid(), flush=True)
        time.sleep(600)
    os.waitpid(child, 0)
    print("ended", flush=True)
threading.Thread(target=fork, daemon=True).start()
"""
    process = start(WAITS["lock"], before=before)
    assert process.stdout is not None
    try:
        child = int(process.stdout.readline().split()[1])
        os.kill(child, signal.SIGTERM)
        time.sleep(0.5)
        assert process.poll() is None
        with contextlib.suppress(ProcessLookupError):  # it ends as it likes
            os.kill(child, signal.SIGKILL)
        assert process.stdout.readline() == "ended\n", "the parent has heard its child's signal"
    finally:
        end(process)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_command_ends(tmp_path: Path, number: signal.Signals) -> None:
    """A command of `prvr`; here one that waits for a process of its own that never answers."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import os, sys\nfrom pipeline.cli import main\n" + _WAITING, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        deliver(process.pid, threads(process.pid)[-1], number)
        assert process.wait(20) == 128 + number
        assert list(tmp_path.iterdir()) == [], "what it was writing is gone"
    finally:
        end(process)


_WAITING = """
from pipeline.core.atomic import replacing
import selectors, threading, time
@main.app.command()
def wait(folder: str):
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    with replacing(folder + "/result") as file:
        file.write_text("half")
        print("ready", flush=True)
        selectors.DefaultSelector().select(600)
sys.argv = ["prvr", "wait", sys.argv[1]]
main.main()
"""
