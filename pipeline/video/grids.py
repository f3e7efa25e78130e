"""When each row of a video is looked at, and which frame is shown then: pure functions of times.

The clock of a video starts at the presentation time of its first frame, whatever the file calls it (streams that start at 1.4 s,
10 s or -0.2 s are common), and ends when its last frame stops being shown. All times are seconds on that clock.
"""

from __future__ import annotations

import numpy as np

from pipeline.config.streams import Stream


def row_count(duration: float, every: float) -> int:
    """Rows of a video: max(1, round(duration / every)), as the field's extractors count them."""
    return max(1, round(duration / every))


def rows(duration: float, every: float) -> tuple[np.ndarray, np.ndarray]:
    """What each row covers.

    Shapes: start [N], end [N] float64 s; row i covers [i*every, min((i+1)*every, duration)). A rest shorter than half a row has none.
    """
    start = np.arange(row_count(duration, every), dtype=np.float64) * every
    return start, np.minimum(start + every, duration)


def instants(stream: Stream, duration: float) -> np.ndarray:
    """When each frame of each row is taken, never before the row before it.

    A still is taken at the row's start or at start + every/2 (of a video shorter than that: in its middle). A window takes
    start + j*stride/fps, j = 0..count-1; past the row's end its last instant inside the row is repeated. Windows do not overlap.

    Shapes: [N, count] float64 s. Source: docs/decisions.md, sampling (the field's feature k is the middle of second 2k..2k+2).
    """
    start, end = rows(duration, stream.every)
    if stream.count == 1:
        offset = 0.0 if stream.at != "middle" else stream.every / 2
        return np.where(start + offset < end, start + offset, (start + end) / 2)[:, None]
    steps = np.arange(stream.count, dtype=np.float64) * stream.stride / stream.fps
    inside = np.maximum(1, np.ceil((end - start) * stream.fps / stream.stride - 1e-6)).astype(np.int64)  # instants before the end
    return start[:, None] + steps[np.minimum(np.arange(stream.count), inside[:, None] - 1)]


def tolerance(tick: float) -> float:
    """How late a stamp may be for its frame to count as shown: half a tick, by which rounding moved it.

    Matroska keeps milliseconds: the frame of 0.0667 s is stamped 0.067. Ticks above 1 ms (AVI) are whole frames, and exact.
    """
    return (tick / 2 if tick <= 1e-3 else 0.0) + 1e-9


def shown(stamps: np.ndarray, times: np.ndarray, late: float = 1e-9) -> np.ndarray:
    """Which frame is shown at each time: the last whose presentation time is not after it, the first one before that.

    Shapes: `stamps` [n] ascending s; `times` [...] s -> int64 [...]. `late`: see `tolerance`.
    """
    return np.maximum(0, np.searchsorted(stamps, np.asarray(times) + late, side="right") - 1)


def scaled(width: int, height: int, size: int) -> tuple[int, int]:
    """(width, height) with the short side `size`, as torchvision's Resize rounds it."""
    if width <= height:
        return size, int(size * height / width)
    return int(size * width / height), size


def centre(width: int, height: int, size: int, corner: str = "nearest") -> tuple[int, int]:
    """(left, top) of the central square, rounded as torchvision's CenterCrop does, or (`floor`) down."""
    if corner == "floor":
        return (width - size) // 2, (height - size) // 2
    return round((width - size) / 2.0), round((height - size) / 2.0)
