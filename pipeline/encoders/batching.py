"""Rows of many videos through one or more encoders: batches packed across videos, reading and writing beside the computation."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from pipeline.core.source import Frames, Reading
from pipeline.encoders.batch_size import BatchSize, is_out_of_memory

T = TypeVar("T")
AHEAD = 3  # batches read before they are needed
WRITES = 16  # finished videos that may wait for the writer


@dataclass
class Stats:
    """What a run took; `idle`: share of the time the encoders waited for frames."""

    videos: int = 0
    rows: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    batch: int = 0
    halved: int = 0

    @property
    def idle(self) -> float:
        return self.waited / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        rate = self.rows / self.seconds if self.seconds else 0.0
        return {
            "videos": self.videos,
            "rows": self.rows,
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(rate, 2),
            "idle_share": round(self.idle, 4),
            "batch_size": self.batch,
            "out_of_memory": self.halved,
        }


@dataclass(eq=False)
class Encoding:
    """One encoder at work on the rows of `stream` of the videos it `wants`.

    Each finished video is handed to `write(reading, float32 [N, D])`, in the order they finish; `report(stats, rows)` is called after
    each batch. `pin`: whether batches are put where a GPU fetches them itself.
    """

    stream: str
    encode: Callable[[Any], Tensor]
    size: BatchSize
    wants: frozenset[str]
    write: Callable[[Reading, np.ndarray], None]
    report: Callable[[Stats, int], None] = lambda stats, rows: None
    pin: bool = False
    stats: Stats = field(default_factory=Stats)
    done: dict[Reading, list[np.ndarray]] = field(default_factory=dict)  # rows encoded of readings that have not ended

    def takes(self, frames: Frames) -> bool:
        """Whether these are rows it wants."""
        return frames.stream == self.stream and frames.reading.video_id in self.wants

    def collect(self, batch: RowBatch, pieces: list[Tensor]) -> Iterator[tuple[Reading, np.ndarray]]:
        """Give the rows of an encoded batch to their videos; those that are whole by it."""
        rows, at = torch.cat([piece.float().cpu() for piece in pieces]).numpy() if pieces else np.zeros((0, 0)), 0
        for reading, count in batch.spans:
            known = self.done.setdefault(reading, [])
            known.append(rows[at : at + count])
            at += count
            if reading.failed:
                del self.done[reading]
            elif not count:  # it has ended
                yield reading, np.concatenate(self.done.pop(reading)[:-1])
                self.stats.videos += 1
        self.stats.rows, self.stats.batch, self.stats.halved = self.stats.rows + at, self.size.rows, self.size.halved


@dataclass
class RowBatch:
    """Rows of one or more videos for one encoder: `rows` uint8 [n, ...] or None, and in their order how many of which video.

    Where a video has ended there are 0 of it.
    """

    encoding: Encoding
    rows: Any
    spans: list[tuple[Reading, int]]


class _Packer:
    """Full batches of rows for one encoder across video boundaries; at most one is held."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._start()

    def _start(self) -> None:
        self._parts: list[np.ndarray] = []
        self._spans: list[tuple[Reading, int]] = []
        self._held, self._target = 0, self._encoding.size.rows

    def add(self, reading: Reading, rows: np.ndarray | None) -> Iterator[RowBatch]:
        if rows is None:
            self._spans.append((reading, 0))
            return
        start = 0
        while start < len(rows):
            part = rows[start : start + self._target - self._held]
            self._parts.append(part)
            self._spans.append((reading, len(part)))
            self._held, start = self._held + len(part), start + len(part)
            if self._held == self._target:
                yield self._batch()

    def rest(self) -> Iterator[RowBatch]:
        if self._spans:
            yield self._batch()

    def _batch(self) -> RowBatch:
        rows: Any = self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts) if self._parts else None
        if self._encoding.pin and rows is not None:
            rows = torch.from_numpy(rows).pin_memory()
        batch = RowBatch(self._encoding, rows, self._spans)
        self._start()
        return batch


def pack(frames: Iterable[Frames], encodings: Sequence[Encoding]) -> Iterator[RowBatch]:
    """Full batches of rows for each encoder across video boundaries, in order; only the last of each may be smaller."""
    packers = [(encoding, _Packer(encoding)) for encoding in encodings]
    for given in frames:
        for encoding, packer in packers:
            if encoding.takes(given):
                yield from packer.add(given.reading, given.rows)
    for _, packer in packers:
        yield from packer.rest()


def prefetch(items: Iterable[T], depth: int = AHEAD, stop: threading.Event | None = None) -> Generator[T, None, None]:
    """The same items, produced up to `depth` ahead in a thread; its exceptions are raised here.

    When this iterator ends, `stop` is set, and the thread waited for.
    """
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stop = stop or threading.Event()

    def put(kind: str, value: Any = None) -> bool:
        while not stop.is_set():
            try:
                ready.put((kind, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        try:
            for item in items:
                if not put("item", item):
                    return
            put("end")
        except BaseException as error:
            put("error", error)

    thread = threading.Thread(target=produce, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        stop.set()
        thread.join()


def compute(rows: Any, encode: Callable[[Any], Tensor], size: BatchSize) -> list[Tensor]:
    """`encode` over pieces of exactly `size.rows` rows, the last padded with zeros, halving them when memory runs out.

    Shapes: rows uint8 [n, ...] -> pieces that concatenate to [n, D]. With one size for every piece a row's result does not
    depend on the rows beside it: on the CPU the stored bytes are the same however the videos were packed.
    """
    done: list[Tensor] = []
    start = 0
    while start < len(rows):
        piece = torch.as_tensor(rows[start : start + size.rows])
        used = len(piece)
        try:
            if used < size.rows:
                piece = torch.cat([piece, piece.new_zeros((size.rows - used, *piece.shape[1:]))])
            done.append(encode(piece)[:used])
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            size.halve(error)
            del piece
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        start += used
    return done


def run(frames: Generator[Frames], encodings: Sequence[Encoding], stop: threading.Event | None = None) -> None:
    """Encode the rows of every video with each encoder that wants them, and write every video that is whole.

    A thread reads ahead, another writes; results of a batch are fetched while the next one is computed. When all is done, and when it
    fails, `stop` is set, for whoever waits for `frames`, and they are closed. Errors of the reader and of `write` are raised here.
    """
    started, waited = time.monotonic(), 0.0
    writes: deque[Future] = deque()

    def collect(batch: RowBatch, pieces: list[Tensor], writer: ThreadPoolExecutor) -> None:
        encoding, before = batch.encoding, batch.encoding.stats.rows
        for reading, rows in encoding.collect(batch, pieces):
            writes.append(writer.submit(encoding.write, reading, rows))
        while writes and (writes[0].done() or len(writes) > WRITES):
            writes.popleft().result()
        encoding.stats.seconds, encoding.stats.waited = time.monotonic() - started, waited
        encoding.report(encoding.stats, encoding.stats.rows - before)

    batches = prefetch(pack(frames, encodings), stop=stop)
    with ThreadPoolExecutor(1, thread_name_prefix="writer") as writer, closing(frames), closing(batches):
        pending: tuple[RowBatch, list[Tensor]] | None = None
        asked = time.monotonic()
        for batch in batches:
            waited += time.monotonic() - asked
            pieces = compute(batch.rows, batch.encoding.encode, batch.encoding.size) if batch.rows is not None else []
            if pending is not None:
                collect(*pending, writer)
            pending = batch, pieces
            asked = time.monotonic()
        waited += time.monotonic() - asked  # for the end
        if pending is not None:
            collect(*pending, writer)
        while writes:
            writes.popleft().result()
    for encoding in encodings:
        encoding.stats.seconds, encoding.stats.waited = time.monotonic() - started, waited
