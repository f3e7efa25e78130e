"""Progress of long work: a bar on a terminal, a plain line every few seconds in a log, and for whoever watches (running.py)."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import ClassVar, TypeVar

from tqdm import tqdm

T = TypeVar("T")
LINE_EVERY = 10.0  # seconds between the lines of a log


class Meter:
    """Counts done work; `update(n, note)` draws it. Use as a context manager. What was done before the first update has no speed."""

    open: ClassVar[list[Meter]] = []  # those this process is at work on, the innermost last

    def __init__(self, total: int | None, label: str, unit: str = "it") -> None:
        self.total, self.label, self.unit = total, label, unit
        self.done, self.note = 0, ""
        self._before: int | None = None
        self._started = self._shown = time.monotonic()
        self._bar = tqdm(total=total, desc=label, unit=unit, dynamic_ncols=True) if sys.stderr.isatty() else None

    def __enter__(self) -> Meter:
        Meter.open.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        Meter.open.remove(self)
        if self._bar is not None:
            self._bar.close()
        else:
            self._line()

    def update(self, n: int = 1, note: str = "") -> None:
        if self._before is None:
            self._before = self.done
        self.done += n
        self.note = note or self.note
        if self._bar is not None:
            self._bar.set_postfix_str(self.note, refresh=False)
            self._bar.update(n)
        elif time.monotonic() - self._shown > LINE_EVERY:
            self._line()

    @property
    def rate(self) -> float:
        """Units a second since the beginning."""
        seconds = time.monotonic() - self._started
        return (self.done - (self._before or 0)) / seconds if seconds > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds still to go at this rate; None where the end or the rate is unknown."""
        return (self.total - self.done) / self.rate if self.total and self.rate and self.done < self.total else None

    def _line(self) -> None:
        self._shown = time.monotonic()
        seconds, left = self._shown - self._started, f", {self.left:.0f} s left" if self.left else ""
        of = f"/{self.total}" if self.total is not None else ""
        print(
            f"{self.label}: {self.done}{of} {self.unit}, {seconds:.1f} s, {self.rate:.1f} {self.unit}/s{left} {self.note}".rstrip(),
            file=sys.stderr,
            flush=True,
        )


def track(iterable: Iterable[T], *, total: int | None = None, label: str = "", unit: str = "it") -> Iterator[T]:
    """Yield from `iterable`, showing how far it is."""
    if total is None and hasattr(iterable, "__len__"):
        total = len(iterable)  # type: ignore[arg-type]
    with Meter(total, label, unit) as meter:
        for item in iterable:
            yield item
            meter.update()
