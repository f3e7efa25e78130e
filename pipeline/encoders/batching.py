"""Rows of many videos through one encoder: batches packed across videos, reading and writing beside the computation."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from pipeline.encoders.batch_size import BatchSize, is_out_of_memory

T = TypeVar("T")
AHEAD = 3  # batches read before they are needed
WRITES = 16  # finished videos that may wait for the writer


@dataclass
class VideoRows:
    """One video's rows, read when they are needed: `read(a, b)` gives rows a..b, uint8 [b-a, ...]."""

    video_id: str
    rows: int
    read: Callable[[int, int], np.ndarray]


@dataclass
class RowBatch:
    """Rows of one or more videos: `rows` uint8 [n, ...] and, in the same order, (video position, its rows a..b)."""

    rows: Any
    spans: list[tuple[int, int, int]]


@dataclass
class Stats:
    """What a run took; `idle`: share of the time the encoder waited for frames."""

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


def pack(videos: Iterable[VideoRows], size: BatchSize) -> Iterator[RowBatch]:
    """Full batches of rows across video boundaries, in order; only the last may be smaller. At most one batch is in memory."""
    parts: list[np.ndarray] = []
    spans: list[tuple[int, int, int]] = []
    held, target = 0, size.rows
    for position, video in enumerate(videos):
        start = 0
        while start < video.rows:
            stop = min(video.rows, start + target - held)
            parts.append(video.read(start, stop))
            spans.append((position, start, stop))
            held, start = held + stop - start, stop
            if held == target:
                yield RowBatch(parts[0] if len(parts) == 1 else np.concatenate(parts), spans)
                parts, spans, held, target = [], [], 0, size.rows
    if held:
        yield RowBatch(np.concatenate(parts), spans)


def prefetch(items: Iterable[T], depth: int = AHEAD) -> Generator[T, None, None]:
    """The same items, produced up to `depth` ahead in a thread; its exceptions are raised here, and it stops when this iterator does."""
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stop = threading.Event()

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


def run(
    videos: list[VideoRows],
    encode: Callable[[Any], Tensor],
    size: BatchSize,
    write: Callable[[str, np.ndarray], None],
    *,
    pin: bool = False,
    report: Callable[[Stats, int], None] = lambda stats, rows: None,
) -> Stats:
    """Encode every video and hand each finished one to `write(video_id, float32 [N, D])`, in the order they finish.

    A thread reads ahead, another writes; results of a batch are fetched while the next one is computed. `report(stats, rows)` is
    called after each batch. Errors of the reader and of `write` are raised here.
    """
    stats, started = Stats(), time.monotonic()
    started_rows: dict[int, np.ndarray] = {}
    left = {position: video.rows for position, video in enumerate(videos)}
    batches = prefetch(RowBatch(torch.from_numpy(b.rows).pin_memory() if pin else b.rows, b.spans) for b in pack(videos, size))
    writes: deque[Future] = deque()

    def collect(batch: RowBatch, pieces: list[Tensor], writer: ThreadPoolExecutor) -> None:
        rows, at = torch.cat([p.float().cpu() for p in pieces]).numpy(), 0
        for position, start, stop in batch.spans:
            video = videos[position]
            if position not in started_rows:
                started_rows[position] = np.empty((video.rows, rows.shape[1]), np.float32)
            started_rows[position][start:stop] = rows[at : at + stop - start]
            at, left[position] = at + stop - start, left[position] - (stop - start)
            if not left[position]:
                writes.append(writer.submit(write, video.video_id, started_rows.pop(position)))
                stats.videos += 1
        while writes and (writes[0].done() or len(writes) > WRITES):
            writes.popleft().result()
        stats.rows, stats.batch, stats.halved = stats.rows + at, size.rows, size.halved
        stats.seconds = time.monotonic() - started
        report(stats, at)

    with ThreadPoolExecutor(1, thread_name_prefix="writer") as writer, closing(batches):
        pending: tuple[RowBatch, list[Tensor]] | None = None
        asked = time.monotonic()
        for batch in batches:
            stats.waited += time.monotonic() - asked
            pieces = compute(batch.rows, encode, size)
            if pending is not None:
                collect(*pending, writer)
            pending = batch, pieces
            asked = time.monotonic()
        if pending is not None:
            collect(*pending, writer)
        while writes:
            writes.popleft().result()
    stats.seconds = time.monotonic() - started
    return stats
