"""What a machine does at most, measured, and what a piece of work asks of it, counted: the two sides of a bound.

Operations are those of matrix products and convolutions, two for each multiplication with its addition; all else is left out, so a bound
made of them is one that cannot be beaten rather than one that can be reached.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.ranking import best
from pipeline.encoders.base import PRECISIONS
from pipeline.models.cpu import kernels

SIDES = (512, 1024, 2048, 4096, 8192)  # of the square matrices that are multiplied
LONG = 0.1  # seconds: a product that takes so long is large enough
COPIED = 1 << 28  # bytes that are copied: far more than any cache holds


@dataclass(frozen=True)
class Peaks:
    """Operations a second of a large matrix product in each precision, bytes a second copied (read and written) and summed up (read)."""

    products: dict[str, float]
    copied: float
    read: float

    @property
    def bandwidth(self) -> float:
        """Bytes a second that memory gives at most: what only reads may be faster than a copy, and what copies may bypass the cache."""
        return max(self.copied, self.read)

    def or_better(self, other: Peaks) -> Peaks:
        """The higher of two measurements of each: other work on the machine only ever lowers one."""
        products = {name: max(value, other.products[name]) for name, value in self.products.items()}
        return Peaks(products, max(self.copied, other.copied), max(self.read, other.read))


def seconds(run: Callable[[], object], device: torch.device, repeats: int = 5, most: float = float("inf")) -> tuple[float, float]:
    """Wall and processor seconds of the quickest of `repeats` calls, or of as many as fit into `most` seconds (at least one)."""

    def whole() -> None:
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    started = time.perf_counter()
    found = best(whole, 1)
    for _ in range(repeats - 1):
        if time.perf_counter() - started + found[0] > most:
            break
        again = best(whole, 1)
        found = min(found[0], again[0]), min(found[1], again[1])
    return found


def busy(found: tuple[float, float], clock: str, threads: int = 1) -> float:
    """The seconds that count: by the wall clock, or (`cpu`) of each of the threads' processors, which other work changes less."""
    return found[0] if clock == "wall" else found[1] / threads


def product_peak(device: torch.device, precision: str, clock: str = "wall") -> float:
    """Operations a second of the fastest large matrix product here, by torch's own library or the one that `kernels.multiply` takes."""
    peak, dtype = 0.0, PRECISIONS[precision]
    for side in SIDES:
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        found = []
        for multiply in (torch.mm, kernels.multiply):
            run = partial(multiply, a, b)
            run()  # a library chooses its code with the first product of a shape
            found.append(busy(seconds(run, device, most=0.5), clock, torch.get_num_threads()))
        peak = max(peak, 2 * side**3 / min(found))
        if min(found) > LONG:
            break
    return peak


def measure(device: torch.device, clock: str = "wall", copied: int = COPIED) -> Peaks:
    """The peaks of the device, with as many threads as torch uses."""
    values = torch.ones(copied // 4, device=device)
    other, threads = torch.zeros_like(values), torch.get_num_threads()
    copy = busy(seconds(lambda: other.copy_(values), device, 10), clock, threads)
    total = busy(seconds(lambda: values.sum(), device, 10), clock, threads)
    products = {name: product_peak(device, name, clock) for name in ("fp32", "bf16")}
    return Peaks(products, 2 * values.nbytes / copy, values.nbytes / total)


def operations(run: Callable[[], object]) -> int:
    """Operations of the matrix products and convolutions of one call, on one thread: a counter sees only the thread it is made in."""
    formulas = {torch.ops.aten.mv: _vector, torch.ops.aten.dot: _dot}
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # what `kernels.multiply` and the encoders multiply with on a CPU
        formulas[torch.ops.mkldnn._linear_pointwise] = _linear
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
            run()
    finally:
        torch.set_num_threads(threads)
    return int(counter.get_total_flops())


def _linear(rows: Any, weight: Any, *_: Any, **__: Any) -> int:
    count = 2 * weight[0] * weight[1]
    for size in rows[:-1]:
        count *= size
    return count


def _vector(matrix: Any, *_: Any, **__: Any) -> int:
    return 2 * matrix[0] * matrix[1]


def _dot(left: Any, *_: Any, **__: Any) -> int:
    return 2 * left[0]
