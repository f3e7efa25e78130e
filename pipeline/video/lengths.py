"""Whether the length a file's stamps claim can be believed: one flipped bit in a table of durations makes days of three seconds.

Sparse pictures are no fault by themselves: a recorded talk shows one slide for minutes, and its header says the same length. Headers
alone cannot judge either: many whole files have one that was never updated, but those hold their frames at a usual distance.
"""

from __future__ import annotations

from typing import Any

import av
import numpy as np

from pipeline.core.errors import VideoError

_LONGEST = 7 * 86400.0  # seconds; a row a second of more is no collection of videos
_STILL = 60.0  # seconds a picture stands before the header is asked about it
_STANDS = 3600.0  # seconds a single picture stands in no file that shows as much beside it
_SPARSE = 600.0  # seconds a picture, on the average of the file


def declared(container: Any) -> float:
    """The longest length that the headers of the container and its streams state, s; 0 when none does."""
    lengths = [container.duration / av.time_base if container.duration else 0.0]
    lengths += [float(s.duration * s.time_base) for s in container.streams if s.duration and s.time_base]
    return max(*lengths, 0.0)


def check(path: str, times: np.ndarray, last: float, stated: float) -> None:
    """Refuse a length that is damage. `stated` by the headers, s, 0 when they say nothing.

    Shapes: `times` [frames] float64 s, ascending from 0; `last` s. Errors: VideoError DECODE_ERROR.
    """
    shown = np.append(np.diff(times), last)
    length, longest = float(shown.sum()), float(shown.max())
    beyond, standing = length - stated, float(shown[shown > _STILL].sum())
    problem = ""
    if not length <= _LONGEST:
        problem = "no video is as long"
    elif stated > 0 and beyond > _STILL and standing > beyond / 2:
        problem = f"its header says {_words(stated)}"
    elif longest > _STANDS and longest > 10 * (length - longest):
        problem = f"one picture stands for {_words(longest)}"
    elif length / len(shown) > _SPARSE:
        problem = f"a picture stands for {_words(length / len(shown))} on average"
    if problem:
        said = f"the stamps are damaged: they claim {_words(length)} for {len(shown)} frame{'s' if len(shown) > 1 else ''}, but {problem}"
        raise VideoError("DECODE_ERROR", said, where=path, fix="copy or download the file again, or re-encode it")


def _words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 7200 else f"{seconds / 3600:.0f} h" if seconds < 172800 else f"{seconds / 86400:.0f} days"
