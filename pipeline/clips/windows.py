"""Long videos as overlapping windows, each pooled, merged and ranked by itself."""

from __future__ import annotations

import math

import numpy as np


def windows(start: np.ndarray, end: np.ndarray, seconds: float) -> list[slice]:
    """The rows of each window of a video: all of them `seconds` long, each at least half shown by the next, the last ends with the video.

    A row belongs to the windows its middle lies in. A video no longer than a window is one; so is one whose rows carry no times.

    Shapes: `start`, `end` [N] s. ValueError for N = 0.
    """
    if len(start) == 0:
        raise ValueError("no rows to divide")
    length = float(end[-1] - start[0])
    if not length > seconds:
        return [slice(0, len(start))]
    count = math.ceil((length - seconds) / (seconds / 2)) + 1
    begins = start[0] + np.linspace(0, length - seconds, count)
    middle = (start.astype(np.float64) + end) / 2
    first = np.minimum(np.searchsorted(middle, begins), len(start) - 1)
    last = np.maximum(np.searchsorted(middle, begins + seconds), first + 1)
    last[-1] = len(start)
    return [slice(int(a), int(b)) for a, b in zip(first, last, strict=True)]
