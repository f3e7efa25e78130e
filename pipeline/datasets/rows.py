"""What every reader returns: videos and queries in the words of the field, before they become the canonical table.

Standard library only: the workflow reads the list of videos each time it starts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.core.errors import DatasetError

Moment = tuple[float, float]
SPLITS = ("train", "val", "test")
LISTED = 100  # problems named in an error message
NO_SPLIT = "none"  # in the gallery of `prvr search`, in no evaluated one


@dataclass(frozen=True, slots=True)
class Video:
    """One video of the dataset.

    `duration`: annotated seconds, nan when unknown. `parts`: for each file to be joined, the names (without extension) it may have on disk.
    `files`: where those files are, in order; empty until they are looked up.
    """

    video_id: str
    split: str
    duration: float = math.nan
    parts: tuple[tuple[str, ...], ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Query:
    """One sentence about (a part of) one video; `moments` are seconds on that video's time line, empty when unknown."""

    query_id: str
    video_id: str
    split: str
    text: str
    moments: tuple[Moment, ...] = ()
    cap_id: str = ""
    group: str = ""
    flags: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """A dataset as read: `gallery` names the published evaluation set where there are several; `notes` are facts to print.

    `missing`: one line for each absent file that `allow_missing_videos` let pass; `absent`: the ids of those videos.
    """

    videos: tuple[Video, ...]
    queries: tuple[Query, ...]
    gallery: str = ""
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


def normalise(text: str) -> str:
    """White space stripped and collapsed (69 % of ActivityNet's sentences carry stray blanks)."""
    return " ".join(text.split())


def repair(moments: Iterable[Sequence[float]], duration: float) -> tuple[tuple[Moment, ...], tuple[str, ...]]:
    """Moments in order, start before end, inside the video; and the flags of what had to be changed.

    Shapes: moments in seconds; duration in seconds, nan when unknown. Flags: `reversed` (swapped), `clamped` (cut to the video),
    `zero_length` (nothing left, kept as it is). Source: docs/datasets.md, what the readers mend.
    """
    fixed, flags = [], set()
    for start, end in moments:
        if start > end:
            start, end = end, start
            flags.add("reversed")
        limit = duration if duration > 0 else math.inf
        low, high = min(max(start, 0.0), limit), min(max(end, 0.0), limit)
        if (low, high) != (start, end):
            flags.add("clamped")
        if low == high:
            flags.add("zero_length")
        fixed.append((float(low), float(high)))
    return tuple(sorted(fixed)), tuple(sorted(flags))


def refuse(problems: Sequence[str], *, what: str, where: Any, fix: str) -> None:
    """DatasetError with the problems (of many the first) below the plural `what`, or nothing when there is none."""
    if problems:
        listing = "\n".join(f"    {problem}" for problem in problems[:LISTED])
        listing += f"\n    ... and {len(problems) - LISTED:,} more" if len(problems) > LISTED else ""
        raise DatasetError(f"{what} ({len(problems)}):\n{listing}", where=where, fix=fix)


def check(rows: Rows, where: Any) -> Rows:
    """The rows, when query ids are unique and every query has a text and a listed video of its own split.

    Errors: DatasetError listing every row that is not so.
    """
    videos: dict[str, Video] = {}
    problems = []
    for video in rows.videos:
        if video.video_id in videos:
            problems.append(f"video {video.video_id}: listed twice")
        videos[video.video_id] = video
    seen: set[str] = set()
    for query in rows.queries:
        if query.query_id in seen:
            problems.append(f"query {query.query_id}: the id is used twice")
        seen.add(query.query_id)
        if not query.text:
            problems.append(f"query {query.query_id}: no text")
        owner = videos.get(query.video_id)
        if owner is None:
            problems.append(f"query {query.query_id}: its video {query.video_id} is not in the list of videos")
        elif owner.split != query.split:
            problems.append(f"query {query.query_id}: split {query.split}, but its video {query.video_id} is in {owner.split}")
    refuse(problems, what="rows that contradict each other", where=where, fix="mend these rows, or fetch the annotation files again")
    return rows
