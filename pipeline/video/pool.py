"""Decoding processes, watched: each video has its time and memory, and one that hangs or crashes its process costs only itself."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.core import install
from pipeline.core.errors import DecoderError, StoreError, system_error
from pipeline.video import worker

_START = 120.0  # seconds a process may take to start on a busy machine
_LONGEST_WAIT = 3600.0  # seconds; poll(2) takes milliseconds as an int, some 24 days
_START_TRIES = 3  # per worker, of processes that say nothing
_KILLED_TRIES = (
    10  # per worker, of processes that someone kills before they are ready: one sweep may kill all, and the next their successors
)
_PAUSE = 0.2  # seconds before a killed one is replaced
_KILLED = (-signal.SIGKILL, -signal.SIGTERM)  # by someone else
_NO_MEMORY = ("bad_alloc", "MemoryError", "Cannot allocate memory")


@dataclass(frozen=True)
class Job:
    """One video to decode: `streams` are stream recipes by name, `folder` where its frames go, `forced` why PyAV must read it (or "")."""

    video_id: str
    paths: tuple[str, ...]
    streams: dict[str, dict[str, Any]]
    folder: Path
    frames_fps: float = 3.0
    keep_truncated: bool = False
    decoder: str = "pyav"
    forced: str = ""
    tries: int = 0

    def line(self) -> bytes:
        reading = {k: getattr(self, k) for k in ("frames_fps", "keep_truncated", "decoder", "forced")}
        job = {"paths": self.paths, "streams": self.streams, "folder": str(self.folder), "reading": reading}
        return (json.dumps(job) + "\n").encode()


@dataclass(frozen=True)
class Outcome:
    """What became of a video. `code` is "" when it was decoded, else a quarantine code; `path` is the file at fault.

    `sums` holds the CRC-32 of each file in the job's folder.
    """

    job: Job
    code: str = ""
    message: str = ""
    path: str = ""
    decoder: str = ""
    reason: str = ""
    duration: float = 0.0
    origin: float = 0.0
    sums: dict[str, int] = field(default_factory=dict)


class _Child:
    """One process and the video it is busy with."""

    def __init__(self, memory_mb: int) -> None:
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        command = [sys.executable, "-m", worker.__name__, str(os.getpid()), str(memory_mb)]
        path = os.pathsep.join([str(install.CODE), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, env=environment)
        self.job: Job | None = None
        self.ready = False
        self.decoders: list[str] = []
        self.buffer = b""
        self.started = time.monotonic()
        self.deadline = self.started + _START

    @property
    def output(self) -> int:
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def give(self, job: Job, seconds: float) -> None:
        assert self.process.stdin is not None
        self.job, self.decoders = job, []
        self.log.seek(0)
        self.log.truncate()
        self.started = time.monotonic()
        self.deadline = self.started + seconds
        with suppress(BrokenPipeError):  # it died while idle; the end of its output tells
            self.process.stdin.write(job.line())
            self.process.stdin.flush()

    def messages(self) -> list[dict[str, Any]] | None:
        """What it has said since, None when its output has ended."""
        data = os.read(self.output, 1 << 16)
        if not data:
            return None
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def end(self) -> int:
        """Kill it and return how it ended."""
        self.process.kill()
        code = self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        return code

    def last_words(self) -> str:
        self.log.seek(0, os.SEEK_END)
        self.log.seek(max(0, self.log.tell() - 4096))
        return self.log.read().decode(errors="replace")


class Pool:
    """Runs jobs in `workers` processes; a context manager, at whose end every process is gone.

    A video may take `timeout` seconds and `timeout_per_second` more per second of its length. A process is used for many videos.
    """

    def __init__(self, workers: int, *, timeout: float, timeout_per_second: float, memory_mb: int) -> None:
        self._workers, self._timeout, self._per_second, self._memory = max(1, workers), timeout, timeout_per_second, memory_mb
        self._children: list[_Child] = []
        self._false_starts = 0  # in a row

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.end()
        self._children = []

    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Decode every job, each outcome as it comes. A job that hangs or crashes under decord is tried once more with PyAV.

        Errors: DiskError or LimitError when frames cannot be written (not the video's fault), DecoderError when no process starts.
        """
        todo = deque(jobs)
        with selectors.DefaultSelector() as selector:
            for child in self._children:
                selector.register(child.output, selectors.EVENT_READ, child)
            while todo or any(child.job for child in self._children):
                self._hand_out(todo, selector)
                for child in self._waited(selector):
                    outcome = self._step(child, selector)
                    if isinstance(outcome, Job):
                        todo.appendleft(outcome)
                    elif outcome is not None:
                        yield outcome

    def _hand_out(self, todo: deque[Job], selector: selectors.BaseSelector) -> None:
        for child in self._children:
            if todo and child.ready and child.job is None:
                child.give(todo.popleft(), self._timeout)
        while len(self._children) < self._workers and sum(not child.ready for child in self._children) < len(todo):
            child = _Child(self._memory)
            self._children.append(child)
            selector.register(child.output, selectors.EVENT_READ, child)

    def _waited(self, selector: selectors.BaseSelector) -> list[_Child]:
        """The children that have something to say, or whose time is up."""
        busy = [child for child in self._children if child.job or not child.ready]
        wait = max(0.0, min((child.deadline for child in busy), default=time.monotonic()) - time.monotonic())
        heard = [key.data for key, _ in selector.select(min(wait, _LONGEST_WAIT))]
        late = [child for child in busy if child.deadline <= time.monotonic() and child not in heard]
        return heard + late

    def _step(self, child: _Child, selector: selectors.BaseSelector) -> Outcome | Job | None:
        """Hear one child out: an outcome, a job to try again, or nothing yet."""
        if child.deadline <= time.monotonic() and not _readable(child):
            return self._lost(child, selector, late=True)
        messages = child.messages()
        if messages is None:
            return self._lost(child, selector, late=False)
        for message in messages:
            if "ready" in message:
                child.ready, self._false_starts = True, 0
            elif "fatal" in message:
                refused = system_error(OSError(message["number"], message["fatal"], message["where"]))
                raise refused or StoreError(
                    message["fatal"], where=message["where"], fix="make room or mend the permissions, then run again"
                )
            elif "seconds" in message:
                child.decoders = message["decoders"]
                child.deadline = child.started + self._timeout + self._per_second * message["seconds"]
            else:
                job, child.job = child.job, None
                assert job is not None
                return _outcome(job, message)
        return None

    def _lost(self, child: _Child, selector: selectors.BaseSelector, *, late: bool) -> Outcome | Job | None:
        """A child that hangs or has died: replace it, and judge its video."""
        selector.unregister(child.output)
        self._children.remove(child)
        code, job, said = child.end(), child.job, child.last_words()
        if job is None:
            if not child.ready:
                self._false_starts += 1
                if (late or code < 0) and self._false_starts < (_START_TRIES if late else _KILLED_TRIES) * self._workers:
                    time.sleep(_PAUSE)
                    return None
                raise DecoderError(
                    f"a decoding process does not start ({f'waited {_START:.0f} s' if late else f'exit {code}'}): {said.strip()}",
                    fix="`prvr doctor` checks the decoders and says what is amiss",
                )
            return None
        decoder, seconds = "+".join(child.decoders), child.deadline - child.started
        name = signal.Signals(-code).name if code < 0 else f"exit {code}"
        killed = code == -signal.SIGKILL and not late
        if not job.tries and not late and code in _KILLED:
            return replace(job, tries=1)
        if not job.forced and "decord" in child.decoders:
            return replace(job, forced=f"decord did not finish in {seconds:.0f} s" if late else f"decord crashed ({name})")
        if late:
            return Outcome(job, "TIMEOUT", f"not decoded after {seconds:.0f} s", job.paths[0], decoder)
        if killed or any(word in said for word in _NO_MEMORY):
            return Outcome(job, "OUT_OF_MEMORY", f"its process ran out of {self._memory} MB ({name})", job.paths[0], decoder)
        return Outcome(job, "DECODE_ERROR", f"the decoder crashed ({name})", job.paths[0], decoder)


def _readable(child: _Child) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(child.output, selectors.EVENT_READ)
        return bool(selector.select(0))


def _outcome(job: Job, message: dict[str, Any]) -> Outcome:
    if "bad" in message:
        code, what, path, decoder = message["bad"]
        return Outcome(job, code, what, path, decoder)
    duration, decoder, reason, origin, sums = message["done"]
    return Outcome(job, decoder=decoder, reason=reason, duration=duration, origin=origin, sums=sums)
