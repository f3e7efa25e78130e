"""The display on a screen: what is printed comes above it whole, whoever prints, and nothing of it is left."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core.running import Running
from pipeline.jobs.display import CLEAR, picture
from tests.workflow.screen import Screen, Terminal

pytestmark = pytest.mark.timeout(60)
JOB = """
import sys, time
from pathlib import Path
from pipeline.core import running
from pipeline.core.progress import Meter
running.EVERY = 0.05
running.begin(Path(sys.argv[1]), "features", {"encoder": "clip", "shard": "000"})
with Meter(None, "clip", "rows") as meter:
    for i in range(1000):
        meter.update(1, f"epoch {i}, " + "x" * 200)
        time.sleep(0.05)
"""
RUN = """
import logging, subprocess, sys, time
from pathlib import Path
from pipeline.core import running
from pipeline.jobs import display
from pipeline.jobs.display import Display
display.EVERY = 0.05
handler = logging.StreamHandler(sys.stderr)
log = logging.getLogger("run")
log.addHandler(handler)
job = subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1]], stderr=subprocess.DEVNULL)
while not running.running(Path(sys.argv[1])):
    time.sleep(0.02)
shown = Display.open(Path(sys.argv[1]), log.handlers)
print("opened" if shown else "none", file=sys.stderr)
try:
    {body}
finally:
    job.kill()
if shown:
    shown.close()
log.error("the end")
"""
PRINTING = """
    for i in range(12):
        time.sleep(0.1)
        if i % 4 == 0:
            print(f"table {i}a", f"table {i}b", sep="\\n")
        elif i % 4 == 1:
            log.error("rule %s:\\n    input: b", i)
        elif i % 4 == 2:
            sys.stderr.write(f"half {i}")
            sys.stderr.flush()
            time.sleep(0.2)
            sys.stderr.write(" whole\\n")
        else:
            says = "from pipeline.jobs.display import above_display; above_display(); print('job {}\\\\nsays'.format(%d))" % i
            subprocess.run([sys.executable, "-c", says])
"""


def start(folder: Path, body: str, **environment: str) -> tuple[subprocess.Popen, Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    program = RUN.replace("{body}", body.strip())
    run = subprocess.Popen(
        [sys.executable, "-c", program, str(folder), JOB],
        env={**os.environ, "TERM": "xterm", **environment},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    return run, Terminal(master)


@pytest.fixture
def ended() -> Iterator[list[subprocess.Popen]]:
    runs: list[subprocess.Popen] = []
    yield runs
    for run in runs:
        run.kill()
        run.wait()


def finish(run: subprocess.Popen, terminal: Terminal, runs: list[subprocess.Popen]) -> None:
    runs.append(run)
    terminal.ends(run, 50)


def test_lines_of_this_process_and_of_jobs_stay_whole_and_nothing_is_left(tmp_path: Path, ended: list[subprocess.Popen]) -> None:
    run, terminal = start(tmp_path, PRINTING)
    finish(run, terminal, ended)
    expected = ["opened"]
    for i in range(0, 12, 4):
        expected += [f"table {i}a", f"table {i}b", f"rule {i + 1}:", "    input: b", f"half {i + 2} whole", f"job {i + 3}", "says"]
    assert terminal.screen.text.splitlines() == [*expected, "the end"]
    live = [line for text in terminal.seen for line in text.splitlines() if line.startswith("features clip 000: ")]
    assert any(re.search(r"epoch \d+, x", line) for line in live)
    assert max(map(len, live)) < 80, "a line longer than the screen would wrap, and be left behind"


def test_no_terminal_no_display(tmp_path: Path) -> None:
    program = RUN.replace("{body}", "time.sleep(0.3)")
    command, environment = [sys.executable, "-c", program, str(tmp_path), JOB], {**os.environ, "TERM": "xterm"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout == ""
    assert done.stderr.startswith("none\n")
    assert "\x1b" not in done.stderr


def test_a_terminal_without_cursor_control_is_left_alone(tmp_path: Path, ended: list[subprocess.Popen]) -> None:
    run, terminal = start(tmp_path, "time.sleep(0.3)", TERM="dumb")
    finish(run, terminal, ended)
    assert "none" in terminal.drawn
    assert CLEAR not in terminal.drawn


def test_a_terminal_that_takes_nothing_does_not_hold_the_end_up(tmp_path: Path, ended: list[subprocess.Popen]) -> None:
    """Its user pressed Ctrl-S, or it is a window nobody reads: a write to it would wait for ever."""
    full = "import os; os.set_blocking(2, False)\n" + "try:\n    while True: os.write(2, b'x' * 4096)\nexcept BlockingIOError: pass\n"
    body = f"exec({full!r}); time.sleep(0.5); shown.close(); Path(sys.argv[1], 'closed').touch(); job.kill(); os._exit(0)"
    run, terminal = start(tmp_path, body)
    ended.append(run)
    terminal.until(lambda: "opened" in terminal.drawn, 30)
    began = time.monotonic()
    while run.poll() is None:
        assert time.monotonic() - began < 20
        time.sleep(0.05)
    assert (tmp_path / "closed").exists()


def jobs(count: int) -> list[Running]:
    return [Running("train", {"seed": str(i)}, float(i), "h", i, "train", "batch", i, 9, 1.5, 4.0, "epoch 1/2") for i in range(count)]


@pytest.mark.parametrize(("count", "rows", "expected"), [(0, 24, 0), (2, 24, 2), (50, 60, 6), (50, 9, 3), (3, 2, 1)])
def test_the_picture_fits_the_screen_and_the_cursor_is_where_it_was(count: int, rows: int, expected: int) -> None:
    screen = Screen()
    screen.feed("before\r\n" + picture(jobs(count), 60, rows))
    assert (screen.row, screen.column) == (1, 0)
    shown = screen.text.splitlines()[1:]
    assert len(shown) == expected
    assert all(len(line) < 60 for line in shown)
    if count > expected > 0:
        assert shown[-1] == f"... and {count - expected + 1} more jobs"
    screen.feed(CLEAR)
    assert screen.text == "before"
