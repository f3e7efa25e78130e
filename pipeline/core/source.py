"""One video of a collection, as every stage knows it, and its frames on their way from whoever reads them to the encoders."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True, slots=True)
class Source:
    """One video: `paths` are joined in order (QVHighlights cuts one source into clips); `duration` in seconds where it is annotated."""

    video_id: str
    paths: tuple[str, ...]
    fingerprint: str
    duration: float | None


@dataclass(eq=False)
class Reading:
    """One reading of a video from its first frame to its last; rows of one that `failed` count for nothing.

    `duration` in seconds and `times`, for each stream what its rows cover (start [N], end [N] float64 s), are known when it has ended.
    """

    video_id: str
    duration: float = math.nan
    times: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    failed: bool = False


class Frames(NamedTuple):
    """The next rows of a reading for a stream: uint8 [n, S, S, 3] stills, [n, k, S, S, 3] windows; None when there are no more."""

    reading: Reading
    stream: str
    rows: np.ndarray | None
