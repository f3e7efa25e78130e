"""A process that decodes one video after another and may be killed at any moment: `python -m pipeline.video.worker PARENT MEMORY_MB`.

A decoder can hang with the interpreter locked, crash, or eat all memory; only another process survives that. Jobs come in as JSON
lines on stdin, answers go out as JSON lines on the first stdout; frames go to files, or row by row behind a line of their own.
The process dies with its parent: the kernel kills it (Linux), and the end of stdin ends it.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import resource
import signal
import sys
import threading
import zlib
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from pipeline.config.streams import Stream
from pipeline.core.errors import VideoError
from pipeline.core.signals import end_with
from pipeline.video.decode import Decoded, decode, inspect, length


class WriteError(Exception):
    """The frames cannot be written; the cause is the system's refusal."""


class Files:
    """A sink: one file of raw frames per stream in `folder`. Errors: WriteError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, IO[bytes]] = {}
        self.sums: dict[str, int] = {}  # CRC-32 of each file
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, stream: str, frame: np.ndarray, times: int) -> None:
        try:
            name = f"{stream}.frames"
            if name not in self._open:
                self._open[name] = (self._folder / name).open("wb")
            self._open[name].write(frame.data)
            self.sums[name] = zlib.crc32(frame.data, self.sums.get(name, 0))
        except OSError as error:
            raise WriteError(f"frames cannot be written: {error.strerror}") from error

    def clear(self) -> None:
        self.close()
        self.sums = {}
        for file in self._folder.iterdir():
            file.unlink()

    def close(self) -> None:
        for file in self._open.values():
            file.close()
        self._open = {}

    def save(self, decoded: Decoded) -> None:
        """Put the times and windows beside the frames."""
        try:
            self.close()
            for stream, taken in decoded.streams.items():
                for name, array in (("time", np.asarray(taken.time, dtype=np.float64)), ("windows", taken.windows)):
                    file = self._folder / f"{stream}.{name}.npy"
                    np.save(file, array)
                    self.sums[file.name] = zlib.crc32(file.read_bytes())
        except OSError as error:
            raise WriteError(f"frames cannot be written: {error.strerror}") from error


class Rows:
    """A sink: each row goes to the parent once it is whole, as raw frames. A parent that does not read holds the decoding up."""

    def __init__(self, answers: IO[bytes], streams: dict[str, Stream]) -> None:
        self._answers, self._streams = answers, streams
        self._row: dict[str, list[np.ndarray]] = {}
        self.sums: dict[str, int] = {}  # it leaves no files

    def add(self, stream: str, frame: np.ndarray, times: int) -> None:
        row = self._row.setdefault(stream, [])
        for _ in range(times):
            row.append(frame)
            if len(row) == self._streams[stream].count:
                say(self._answers, row=stream, bytes=sum(each.nbytes for each in row))
                for each in row:
                    self._answers.write(each.data)
                self._answers.flush()
                row.clear()

    def clear(self) -> None:
        self._row = {}
        say(self._answers, again=True)

    def save(self, decoded: Decoded) -> None:
        """Every row is whole by now."""

    def close(self) -> None:
        """There is nothing to close."""


def say(answers: IO[bytes], **message: Any) -> None:
    """Tell the parent."""
    answers.write(json.dumps(message).encode() + b"\n")
    answers.flush()


def serve(jobs: queue.SimpleQueue[dict[str, Any]], answers: IO[bytes]) -> None:
    """Answer jobs for ever. First the length of the video and its decoders, so that the parent can set its patience; then the result."""
    say(answers, ready=True)
    while True:
        job = jobs.get()
        parts, paths, sink = [], job["paths"], None
        try:
            parts = inspect(paths, **job["reading"])
            say(answers, seconds=length(parts), decoders=sorted({part.choice.decoder for part in parts}))
            streams = {name: Stream(**recipe) for name, recipe in job["streams"].items()}
            sink = Files(Path(job["folder"])) if job["folder"] else Rows(answers, streams)
            decoded = decode(parts, streams, sink)
            sink.save(decoded)
            say(answers, done=[decoded.duration, decoded.decoder, decoded.reason, decoded.origin, sink.sums])
        except VideoError as error:
            say(answers, bad=[error.code, str(error.what), error.where or paths[0], _decoders(parts)])
        except WriteError as error:
            say(answers, fatal=str(error), number=getattr(error.__cause__, "errno", None), where=job["folder"])
        except MemoryError:
            say(answers, bad=["OUT_OF_MEMORY", "no memory for its frames", paths[0], _decoders(parts)])
        except Exception as error:  # a library's own exception: this video is not decoded, the next one may be
            text = (str(error).splitlines() or [""])[0]
            say(answers, bad=["DECODE_ERROR", f"{type(error).__name__}: {text}", paths[0], _decoders(parts)])
        finally:
            if sink is not None:
                with suppress(OSError):  # what could not be written has been told
                    sink.close()
            parts = []
            gc.collect()  # pictures hang on generators in reference cycles after an error


def _decoders(parts: list[Any]) -> str:
    return "+".join(dict.fromkeys(part.choice.decoder for part in parts))


def _read(lines: IO[str], jobs: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in lines:
        jobs.put(json.loads(line))
    os._exit(0)  # the parent is gone, or needs this process no more


def limit_memory(megabytes: int) -> None:
    """Let the address space grow by so much from here: allocations beyond fail instead of starving the machine."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
    allowed = pages * resource.getpagesize() + megabytes * 2**20
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or allowed < hard:
        resource.setrlimit(resource.RLIMIT_AS, (allowed, hard))


def main(parent: int, megabytes: int) -> None:
    """Serve the parent. What libraries print goes to stderr, never between the answers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    end_with(parent)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    limit_memory(megabytes)
    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin, jobs), daemon=True).start()
    serve(jobs, answers)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
