"""Two time lines: the one the annotators saw, and the file's own.

A file that lasts longer or shorter than annotated was made at another speed or cut differently. Published code reads a span as a share of
the annotated length, and so does this: evaluation scales spans to the file. Source: docs/datasets.md, two time lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

OFF = 1.0  # seconds between a file's length and the annotated one that are worth a word


def scale(annotated: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """File seconds per annotated second of each video; 1 where either length is unknown.

    Shapes: `annotated`, `measured` [V] s (NaN unknown); returns [V].
    """
    known = (annotated > 0) & (measured > 0)
    return np.where(known, measured, 1.0) / np.where(known, annotated, 1.0)


def differences(ids: Sequence[str], annotated: np.ndarray, measured: np.ndarray) -> dict[str, Any]:
    """Videos with both lengths, how many are `off` by more than a second, and the `furthest` with its difference in `seconds`.

    Shapes: `ids`, `annotated`, `measured` [V], s (NaN unknown).
    """
    off = measured - annotated
    known = np.flatnonzero((annotated > 0) & (measured > 0))
    result: dict[str, Any] = {"videos": len(known), "off": int((np.abs(off[known]) > OFF).sum())}
    if result["off"]:
        furthest = known[np.abs(off[known]).argmax()]
        result |= {"furthest": ids[furthest], "seconds": float(off[furthest])}
    return result


def words(difference: dict[str, Any]) -> list[str]:
    """`differences` as a sentence; none when every file is as long as annotated."""
    if not difference["off"]:
        return []
    return [
        f"{difference['off']} of {difference['videos']} files are over {OFF:g} s longer or shorter than annotated "
        f"({difference['furthest']}: {difference['seconds']:+.1f} s); their moments are scaled to the file"
    ]
