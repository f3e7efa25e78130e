"""What a user sees of a run at a terminal: how far its jobs are, what they want known, how to go on, and nothing left over."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workflow.interrupting import processes, until
from tests.workflow.screen import Terminal
from tests.workflow.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
COLUMNS = 120
EPOCH = re.compile(
    r"^train main 9527: \d+/240 batches, [\d.]+ batches/s, \d+:\d\d left, epoch \d+/240, SumR [\d.]+ \(best [\d.]+\), loss \d+\.\d+$", re.M
)  # the whole line


@pytest.fixture
def work(finished: Workspace, tmp_path: Path) -> Workspace:
    """A copy in which training is to be done, and takes a while."""
    work = finished.copy(tmp_path / "work")
    work.env |= {"TERM": "xterm", "COLUMNS": "", "LINES": ""}  # the size is the terminal's, whatever started the tests
    shutil.rmtree(work.results / "runs")
    (work.results / "table.md").unlink()
    work.config["training"].update(epochs=240, patience=240, batch_videos=16)  # one batch holds all, which is a notice
    work.write()
    return work


def at_terminal(start: Callable[..., subprocess.Popen], work: Workspace) -> tuple[subprocess.Popen, Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    run = start(work, terminal=slave)
    os.close(slave)
    return run, Terminal(master)


def live(terminal: Terminal) -> set[str]:
    """Every line that was on the screen at some time and is not there at the end."""
    return {line for text in terminal.seen for line in text.splitlines()} - set(terminal.screen.text.splitlines())


def last_line(terminal: Terminal) -> str:
    return terminal.screen.text.splitlines()[-1]


def watched(work: Workspace) -> subprocess.Popen[str]:
    """`prvr status --watch` beside a run."""
    command, env = [sys.executable, "-m", "pipeline.cli", "status", "--watch"], {**os.environ, "PYTHONPATH": str(work.root)}
    return subprocess.Popen(command, cwd=work.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_progress_is_live_and_notices_come_at_the_end(work: Workspace, start: Callable[..., subprocess.Popen]) -> None:
    run, terminal = at_terminal(start, work)
    terminal.until(lambda: EPOCH.search(terminal.screen.text), 600)
    told = work.prvr("status").stdout
    assert re.search(r"^train +[01]/2 +[12]\b", told, re.M), told
    assert re.search(r"^train (main|no-motion) 9527: .*(batches|starting|finishing)", told, re.M), told
    terminal.ends(run, 600)
    assert run.returncode == 0, terminal.screen.text[-4000:]
    gone = live(terminal)
    assert any(map(EPOCH.match, gone)), gone
    assert max(map(len, gone)) < COLUMNS
    text = terminal.screen.text
    left = [line for line in text.splitlines() if re.match(r"(frames|features|train|evaluate|text|clips|world) .*: ", line)]
    assert left == [], "a line of the display was left on the screen"
    known = text[text.index("prvr: to know about this run:") :]
    assert "one batch holds" in known
    assert "to go on" not in text
    assert not list((work.results / ".running").glob("*"))
    assert "nothing runs here" in work.prvr("status", "--watch").stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_last_line_of_an_interrupted_run_says_how_to_go_on(
    work: Workspace, start: Callable[..., subprocess.Popen], number: signal.Signals
) -> None:
    shutil.rmtree(work.results / "features" / "demo-clip-b16")
    run, terminal = at_terminal(start, work)
    terminal.until(lambda: re.search(r"^frames 00\d: .*\d+/\d+ videos", terminal.screen.text, re.M), 600)
    watching = watched(work)
    if number == signal.SIGINT:
        os.write(terminal.master, b"\x03")
    else:
        run.terminate()
    terminal.ends(run, 30)
    assert run.returncode != 0
    assert last_line(terminal).startswith("prvr: interrupted. What finished is kept. To go on, give the same command again; `prvr status`")
    until(lambda: processes(work, "pipeline.cli frames") == [], 10)
    said, wrong = watching.communicate(timeout=60)
    assert watching.returncode == 0, wrong
    assert said.rstrip().endswith("nothing runs here"), said


def test_ctrl_c_leaves_the_watching_and_not_the_run(work: Workspace, start: Callable[..., subprocess.Popen]) -> None:
    run = start(work)
    until(lambda: any((work.results / ".running").glob("*.json")), 600)
    watching = watched(work)
    assert watching.stdout is not None
    assert "videos in" in watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    _, wrong = watching.communicate(timeout=20)
    assert (watching.returncode, wrong) == (0, "")
    assert run.poll() is None


def test_a_failed_run_in_a_file_has_no_control_characters_and_ends_with_how_to_go_on(work: Workspace) -> None:
    work.config["training"]["learning_rate"] = 1.0e30  # the loss is not finite
    work.write()
    failed = work.snakemake(check=False)
    assert failed.returncode != 0
    assert "\x1b" not in failed.stdout
    assert failed.stdout.splitlines()[-1].startswith("prvr: some jobs did not finish")
    assert "give the same command again" in failed.stdout.splitlines()[-1]
