"""From any number of feature rows to a fixed number, or at most that many, with the time and the mass of every pooled row."""

from __future__ import annotations

import numpy as np


def edges(rows: int, length: int, last_row: str = "drop") -> np.ndarray:
    """Where the pooled rows begin, and where the last one ends: pooled row i is the mean of rows [e_i, e_i+1), or row e_i if that is empty.

    "drop": e_i = min(round_half_even(i * rows / length), rows - 1), so the last row is never averaged in when rows exceed
    1.5 * length, and rows repeat when there are fewer. "keep": the last edge is `rows`.

    Shapes: -> int64 [length + 1]. Source: docs/method.md 2.2.
    """
    begins = np.minimum(np.round(np.arange(length + 1) / length * rows), rows - 1).astype(np.int64)
    if last_row == "keep":
        begins[-1] = rows
    return begins


def average_to_fixed_length(rows: np.ndarray, length: int, last_row: str = "drop") -> np.ndarray:
    """Pool rows to `length` by averaging (see `edges`). Shapes: [N, D] -> float32 [length, D]. ValueError for N = 0.

    Source: docs/method.md 2.2.
    """
    if len(rows) == 0:
        raise ValueError("no rows to pool")
    begins = edges(len(rows), length, last_row)
    spans = _spans(begins)
    # reduceat yields the single row e_i where the span is empty, which is the rule; it runs to the end, hence the cut
    sums = np.add.reduceat(rows[: begins[-2] + spans[-1]], begins[:-1], axis=0, dtype=np.float32)
    sums /= spans[:, None]
    return sums


def padded(rows: np.ndarray, length: int) -> np.ndarray:
    """Rows with rows of zeros after them, `length` in all. Shapes: [N <= length, D] -> [length, D]."""
    return np.concatenate([rows, np.zeros((length - len(rows), *rows.shape[1:]), rows.dtype)])


def padded_times(start: np.ndarray, end: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Times of padded rows: padding covers no time, at the end of the last row. Shapes: [N <= length] s -> float32 [length] s twice."""
    rest = np.full(length - len(end), end[-1], np.float32)
    return np.concatenate([start.astype(np.float32), rest]), np.concatenate([end.astype(np.float32), rest])


def times(start: np.ndarray, end: np.ndarray, length: int, last_row: str = "drop") -> tuple[np.ndarray, np.ndarray]:
    """The time each pooled row covers. Shapes: [N], [N] s -> float32 [length], [length] s."""
    begins = edges(len(start), length, last_row)
    last = begins[:-1] + _spans(begins) - 1
    return start[begins[:-1]].astype(np.float32), end[last].astype(np.float32)


def sizes(rows: int, length: int, unit: str = "slots", last_row: str = "drop") -> np.ndarray:
    """What each pooled row weighs: 1 ("slots"), or the rows in it, a repeated row shared by its repeats ("rows").

    Shapes: -> float32 [length], sum `length` or (with "keep") `rows`. Source: docs/method.md 2.3.
    """
    if unit == "slots":
        return np.ones(length, dtype=np.float32)
    begins = edges(rows, length, last_row)
    repeats = np.bincount(begins[:-1], minlength=rows)[begins[:-1]]
    return (_spans(begins) / repeats).astype(np.float32)


def _spans(begins: np.ndarray) -> np.ndarray:
    """Rows averaged into each pooled row, at least one. Shapes: [length + 1] -> [length]."""
    return np.maximum(np.diff(begins), 1)
