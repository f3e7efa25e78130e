"""Rows of several encoders describe the same seconds, or they are not joined."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipeline.core.errors import GridError

SAME = 1e-3  # seconds; rates such as 1/3 s are stored as floats by different tools


def check(video_id: str, spans: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Compare the encoders' row times of one video.

    Shapes: `spans[encoder]` = start [N], end [N] in seconds. GridError naming the video, the two encoders and the first row that differs.
    """
    (first, (start, end)), *others = spans.items()
    for other, (their_start, their_end) in others:
        if len(start) != len(their_start):
            raise _error(video_id, first, other, f"{len(start)} rows against {len(their_start)}")
        differ = np.flatnonzero((np.abs(start - their_start) > SAME) | (np.abs(end - their_end) > SAME))
        if len(differ):
            i = differ[0]
            raise _error(video_id, first, other, f"row {i} is {start[i]:g}-{end[i]:g} s against {their_start[i]:g}-{their_end[i]:g} s")


def check_videos(videos: Mapping[str, list[str]]) -> list[str]:
    """The video ids every encoder has features of, in the first one's order. GridError listing those only some have."""
    everywhere = set.intersection(*(set(ids) for ids in videos.values()))
    for encoder, ids in videos.items():
        alone = [video_id for video_id in ids if video_id not in everywhere]
        if alone:
            missing = [name for name, theirs in videos.items() if alone[0] not in theirs]
            shown = ", ".join(alone[:5]) + (f" and {len(alone) - 5} more" if len(alone) > 5 else "")
            raise GridError(
                f"{encoder} has features of {shown}, {', '.join(missing)} has not",
                fix="run the workflow again: it encodes what is missing; for imported features, import both encoders' complete bundles",
            )
    return list(next(iter(videos.values())))


def _error(video_id: str, first: str, other: str, what: str) -> GridError:
    return GridError(
        f"{first} and {other} look at different times: {what}",
        where=f"video {video_id}",
        fix=f"give encoders.{first}.sampling and encoders.{other}.sampling the same `every`, or use them in separate experiments",
    )
