"""Decoding processes, watched: each video has its time and memory, and one that hangs or crashes its process costs only itself."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.core import install
from pipeline.core.errors import DecoderError, StoreError, system_error
from pipeline.video import worker
from pipeline.video.messages import Again, Event, Job, Outcome, Row

_START = 120.0  # seconds a process may take to start on a busy machine
_LONGEST_WAIT = 0.5  # seconds until it is noticed that the outcomes are not wanted any more
_START_TRIES = 3  # per worker, of processes that say nothing
_KILLED_TRIES = (
    10  # per worker, of processes that someone kills before they are ready: one sweep may kill all, and the next their successors
)
_PAUSE = 0.2  # seconds before a killed one is replaced
_KILLED = (-signal.SIGKILL, -signal.SIGTERM)  # by someone else
_NO_MEMORY = ("bad_alloc", "MemoryError", "Cannot allocate memory")


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
        self.announced: dict[str, Any] | None = None  # the row that comes, as far as it is `filled`
        self.frames, self.filled = bytearray(), 0
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
        """What it has said since, a row with its `frames`; None when its output has ended."""
        if self.announced is not None:
            got = os.readv(self.output, [memoryview(self.frames)[self.filled :]])
            self.filled += got
        else:
            data = os.read(self.output, 1 << 16)
            got, self.buffer = len(data), self.buffer + data
        return list(self._whole()) if got else None

    def _whole(self) -> Iterator[dict[str, Any]]:
        """The messages that are complete."""
        while True:
            if self.announced is not None:
                if self.filled < len(self.frames):
                    return
                message, self.announced = self.announced, None
                yield {**message, "frames": self.frames}
            line, newline, rest = self.buffer.partition(b"\n")
            if not newline:
                return
            self.buffer, message = rest, json.loads(line)
            if "row" in message:
                self.announced, self.frames = message, bytearray(message["bytes"])
                begun, self.buffer = rest[: len(self.frames)], rest[len(self.frames) :]
                self.frames[: len(begun)], self.filled = begun, len(begun)
            else:
                yield message

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
    Set `stop`, and outcomes end.
    """

    def __init__(
        self, workers: int, *, timeout: float, timeout_per_second: float, memory_mb: int, stop: threading.Event | None = None
    ) -> None:
        self._workers, self._timeout, self._per_second, self._memory = max(1, workers), timeout, timeout_per_second, memory_mb
        self._stop = stop or threading.Event()
        self._children: list[_Child] = []
        self._false_starts = 0  # in a row

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.end()
        self._children = []

    def run(self, jobs: Iterable[Job]) -> Iterator[Event]:
        """Decode every job, what becomes of each as it comes. One that hangs or crashes under decord is tried once more with PyAV.

        Errors: DiskError or LimitError when frames cannot be written (not the video's fault), DecoderError when no process starts.
        """
        todo = deque(jobs)
        with selectors.DefaultSelector() as selector:
            for child in self._children:
                selector.register(child.output, selectors.EVENT_READ, child)
            while not self._stop.is_set() and (todo or any(child.job for child in self._children)):
                self._hand_out(todo, selector)
                for child in self._waited(selector):
                    for event in self._step(child, selector):
                        if isinstance(event, Job):
                            todo.appendleft(event)
                            continue
                        given = time.monotonic()
                        yield event
                        self._held_up(time.monotonic() - given)

    def _held_up(self, seconds: float) -> None:
        """Nobody read what the processes said for so long: that is not their time."""
        for child in self._children:
            child.started, child.deadline = child.started + seconds, child.deadline + seconds

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

    def _step(self, child: _Child, selector: selectors.BaseSelector) -> Iterator[Event | Job]:
        """Hear one child out: rows, an outcome, a job to try again, or nothing yet."""
        if not _readable(child):
            if child.deadline <= time.monotonic():  # it may have been given more time since
                yield from self._lost(child, selector, late=True)
            return
        messages = child.messages()
        if messages is None:
            yield from self._lost(child, selector, late=False)
            return
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
                assert child.job is not None
                yield self._heard(child, child.job, message)

    def _heard(self, child: _Child, job: Job, message: dict[str, Any]) -> Event:
        """What a child says of its video."""
        if "again" in message:
            return Again(job)
        if "row" in message:
            return Row(job, message["row"], np.frombuffer(message["frames"], np.uint8))
        child.job = None
        return _outcome(job, message)

    def _lost(self, child: _Child, selector: selectors.BaseSelector, *, late: bool) -> list[Outcome | Job]:
        """A child that hangs or has died: replace it, and judge its video, if it had one."""
        selector.unregister(child.output)
        self._children.remove(child)
        code, job, said = child.end(), child.job, child.last_words()
        if job is None:
            if not child.ready:
                self._false_starts += 1
                if (late or code < 0) and self._false_starts < (_START_TRIES if late else _KILLED_TRIES) * self._workers:
                    time.sleep(_PAUSE)
                    return []
                raise DecoderError(
                    f"a decoding process does not start ({f'waited {_START:.0f} s' if late else f'exit {code}'}): {said.strip()}",
                    fix="`prvr doctor` checks the decoders and says what is amiss",
                )
            return []
        return [self._judged(job, child, code, said, late=late)]

    def _judged(self, job: Job, child: _Child, code: int, said: str, *, late: bool) -> Outcome | Job:
        """What becomes of the video of a child that hung or ended with `code`: its outcome, or the job to try again."""
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
