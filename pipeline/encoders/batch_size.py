"""How many rows an encoder computes at once: found once, halved when memory runs out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.core.errors import DeviceError

CPU_BATCH_BYTES = 1_250_000  # uint8 input of a CPU batch: 8 stills of 224 pixels; larger ones fall out of the cache and are no faster
GROWTH = 1.05  # a GPU batch is doubled while that brings 5 % more rows per second


@dataclass
class BatchSize:
    """How many rows are computed at once; halved when memory runs out."""

    rows: int
    halved: int = 0

    def halve(self, error: Exception) -> None:
        """DeviceError when not even one row fits."""
        if self.rows == 1:
            raise DeviceError(
                "one row of this encoder does not fit in memory", fix="use a smaller encoder, precision bf16, or another device"
            ) from error
        self.rows //= 2
        self.halved += 1


def is_out_of_memory(error: Exception) -> bool:
    """Whether the device (or the CPU allocator) had no memory for the batch."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "not enough memory" in str(error) or "out of memory" in str(error)


def cpu_batch(row_bytes: int, most: int = 64) -> int:
    """Rows per CPU batch: the power of two whose uint8 input stays within CPU_BATCH_BYTES, the same on every run."""
    rows = max(1, min(most, CPU_BATCH_BYTES // max(1, row_bytes)))
    return 1 << (rows.bit_length() - 1)


def grow(measure: Callable[[int], float], *, start: int = 1, most: int = 1024) -> int:
    """The batch size after which doubling brings less than GROWTH or runs out of memory; `measure(rows)` gives rows per second."""
    best, speed, rows = start, measure(start), start * 2
    while rows <= most:
        try:
            faster = measure(rows)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return max(start, best // 2)  # leave room: fragmentation grows during a run
        if faster < speed * GROWTH:
            return best
        best, speed, rows = rows, faster, rows * 2
    return best


def find_batch(encode: Callable[[Any], Tensor], row_shape: tuple[int, ...], device: torch.device) -> int:
    """Rows per batch for this encoder on this device. Shapes: row_shape [S, S, 3] or [k, S, S, 3], uint8."""
    if device.type != "cuda":
        return cpu_batch(int(np.prod(row_shape)))

    def measure(rows: int) -> float:
        sample = torch.zeros((rows, *row_shape), dtype=torch.uint8, device=device)
        encode(sample)
        torch.cuda.synchronize(device)
        started = time.monotonic()
        for _ in range(3):
            encode(sample)
        torch.cuda.synchronize(device)
        return 3 * rows / (time.monotonic() - started)

    return grow(measure)
