"""What a run shows on a terminal beside Snakemake's own lines: how far its running jobs are, live, and how to go on at its end.

The cursor rests at the beginning of the display's first line, and whoever prints clears from there to the end of the screen first: this
process's streams, wrapped while the display is there, and the jobs', which write tables there. So no line is overwritten or left behind.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import select
import shutil
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from pipeline.core import notices
from pipeline.core.running import Running, running

CLEAR = "\x1b[J"  # from the cursor to the end of the screen
EVERY = 1.0  # seconds between two pictures, as often as records change
LINES = 6  # jobs shown at most, and a third of the screen


class Above:
    """A text stream whose whole lines come above a display; what is not a line yet waits for its end or a flush."""

    def __init__(self, inner: TextIO, lock: threading.RLock | None = None) -> None:
        self.inner, self.broken = inner, False  # `broken`: the cursor stands inside a line
        self._lock, self._waiting = lock or threading.RLock(), ""

    def write(self, text: str) -> int:
        with self._lock:
            whole, newline, self._waiting = (self._waiting + text).rpartition("\n")
            if newline:
                self._put(whole + newline)
        return len(text)

    def flush(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, ""
            if waiting:
                self._put(waiting)
            self.inner.flush()

    def _put(self, text: str) -> None:
        self.inner.write(text if self.broken else CLEAR + text)
        self.inner.flush()
        self.broken = not text.endswith("\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def above_display() -> None:
    """In a job: what it prints on the run's terminal comes above the display."""
    if sys.stdout.isatty():
        sys.stdout = Above(sys.stdout)  # type: ignore[assignment]
        atexit.register(sys.stdout.flush)


def picture(jobs: Sequence[Running], columns: int, rows: int) -> str:
    """The display as one string that leaves the cursor where it was: a line a job, each within the screen's width."""
    room = max(1, min(LINES, rows // 3))
    lines = [job.line for job in (jobs if len(jobs) <= room else jobs[: room - 1])]
    if len(lines) < len(jobs):
        lines.append(f"... and {len(jobs) - len(lines)} more jobs")
    lines = [line if len(line) < columns else line[: max(0, columns - 2)] + "…" for line in lines]
    return CLEAR + "\r\n".join(lines) + "\r" + "\x1b[A" * (len(lines) - 1)


class Display(threading.Thread):
    """Draws the running jobs of a folder of records, until it is closed. It writes nothing where stderr is no terminal."""

    def __init__(self, records: Path, handlers: Sequence[logging.Handler]) -> None:
        super().__init__(name="display", daemon=True)
        self._records, self._lock, self._over = records, threading.RLock(), threading.Event()
        self._terminal, self._streams = sys.stderr.fileno(), (sys.stdout, sys.stderr)
        self._wrapped = {id(stream): Above(stream, self._lock) for stream in self._streams if stream.isatty()}
        self._handlers = [h for h in handlers if isinstance(h, logging.StreamHandler) and id(h.stream) in self._wrapped]
        self._drawn = False

    @classmethod
    def open(cls, records: Path, handlers: Sequence[logging.Handler], *, quiet: bool = False) -> Display | None:
        """A display that draws from now on; None where nobody would see it, or in a terminal without cursor control."""
        running(records, tidy=True)
        if quiet or not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb":
            return None
        display = cls(records, handlers)
        sys.stdout, sys.stderr = (display._wrapped.get(id(stream), stream) for stream in display._streams)  # type: ignore[assignment]
        for handler in display._handlers:
            handler.setStream(display._wrapped[id(handler.stream)])
        display.start()
        atexit.register(display.close)
        return display

    def run(self) -> None:
        while not self._over.wait(EVERY):
            jobs = running(self._records)
            with self._lock:
                if not self._over.is_set() and self._may_draw():
                    self._draw(jobs)

    def close(self) -> None:
        """Take the display off the screen; what is printed from here on comes as it would without one. It does not wait for the thread."""
        with self._lock:
            if self._over.is_set():
                return
            self._over.set()
            for wrapped in self._wrapped.values():
                with contextlib.suppress(OSError, ValueError):
                    wrapped.flush()
            if self._drawn and self._may_draw():
                os.write(self._terminal, CLEAR.encode())
            for handler in self._handlers:
                handler.setStream(handler.stream.inner)
            sys.stdout, sys.stderr = self._streams

    def _draw(self, jobs: list[Running]) -> None:
        if jobs or self._drawn:
            columns, rows = shutil.get_terminal_size()
            with contextlib.suppress(OSError):
                os.write(self._terminal, picture(jobs, columns, rows).encode())
            self._drawn = bool(jobs)

    def _may_draw(self) -> bool:
        """Whether the screen is ours: a terminal that takes what is written, this run in its foreground, no line half printed."""
        try:
            if not os.isatty(self._terminal) or any(wrapped.broken for wrapped in self._wrapped.values()):
                return False
            with contextlib.suppress(OSError):  # it controls no processes, so none is in the background
                if os.tcgetpgrp(self._terminal) != os.getpgrp():
                    return False
            return bool(select.select([], [self._terminal], [], 0)[1])
        except (OSError, ValueError):
            return False


class Ending:
    """What a run says last: the notices of its jobs, and, where it did not finish, how to go on."""

    def __init__(self, logs: Path, notes: Sequence[str], status: str) -> None:
        self._logs, self._notes, self._status = logs, list(notes), status
        self._before = notices.kept(logs)
        self.finished = self.interrupted = False
        atexit.register(self._last)

    def notices(self) -> None:
        """Print every notice of this run once: what was said at its start, and what its jobs said."""
        new = [path for path, state in notices.kept(self._logs).items() if self._before.get(path) != state]
        lines = [*self._notes, *notices.gathered(new)]
        if lines:
            print("\nprvr: to know about this run:", *(f"  - {line}" for line in lines), sep="\n", file=sys.stderr)

    def _last(self) -> None:
        if not self.finished:
            what = "interrupted" if self.interrupted else "some jobs did not finish; the lines above say why and where their logs are"
            mend = "" if self.interrupted else "mend the cause and "
            print(
                f"prvr: {what}. What finished is kept. To go on, {mend}give the same command again; `{self._status}` shows what is left.",
                file=sys.stderr,
                flush=True,
            )
