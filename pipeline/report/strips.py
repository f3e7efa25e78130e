"""A video as a strip: evenly spaced stills, and under them the score of a query over time, with the wanted moment marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.report.pick import Ranking
from pipeline.report.pictures import Album

STILLS = 7
WIDE, HIGH = 1000.0, 60.0  # units of the drawing, which is stretched to the page


@dataclass(frozen=True)
class Strip:
    """What is drawn of one video. `curve` and `area` are SVG paths; `peak` x, y, at `peak_time` s with the
    score `best`; `moments` left and width, percent of the video."""

    video: str
    seconds: float
    stills: list[str]
    curve: str
    area: str
    peak: tuple[float, float] | None
    peak_time: float
    best: float
    moments: list[tuple[float, float]]

    @property
    def inside(self) -> bool | None:
        """Whether the best frame lies in a wanted moment; None where that is unknown."""
        if not self.moments or self.peak is None:
            return None
        at = 100 * self.peak_time / self.seconds
        return any(left <= at <= left + width for left, width in self.moments)


def pair(ranking: Ranking, query: int, moments: Sequence[tuple[float, float]], album: Album) -> tuple[Strip, Strip]:
    """The strips of a query's own video and of the one retrieved first, their scores on one scale."""
    rows = [known[query] if known is not None else None for known in (ranking.own_rows, ranking.first_rows)]
    values = np.concatenate([row[np.isfinite(row)] for row in rows if row is not None] or [np.zeros(0)])
    limits = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    own, first = (int(ranking.own[query]), ranking.window_of_own(query)), (int(ranking.top[query, 0]), ranking.window(query, 0))
    return (_strip(ranking, *own, rows[0], limits, moments, album), _strip(ranking, *first, rows[1], limits, (), album))


def _strip(
    ranking: Ranking,
    video: int,
    window: int,
    scores: np.ndarray | None,
    limits: tuple[float, float],
    moments: Sequence[tuple[float, float]],
    album: Album,
) -> Strip:
    name, length = ranking.videos[video], ranking.length(video)
    if not length > 0:
        return Strip(name, 0.0, [], "", "", None, 0.0, 0.0, [])
    stills = album.stills(name, [(i + 0.5) * length / STILLS for i in range(STILLS)])
    spans = [(100 * max(0.0, a) / length, 100 * (min(b, length) - max(0.0, a)) / length) for a, b in moments if a < length and b > a]
    drawn = _points(ranking, window, scores)
    if not len(drawn):
        return Strip(name, length, stills, "", "", None, 0.0, 0.0, spans)
    low, high = limits
    x = drawn[:, 0] / length * WIDE
    y = HIGH - 4 - (HIGH - 8) * (drawn[:, 1] - low) / ((high - low) or 1.0)
    # The line goes from where the first row begins to where the last one ends: from edge to edge but for a window of a long video.
    left, right = _reach(ranking, window) / length * WIDE
    ends = np.concatenate([[left], x, [right]]), np.concatenate([y[:1], y, y[-1:]])
    curve = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(*ends, strict=True))
    best = int(drawn[:, 1].argmax())
    area = f"{curve}L{right:g} {HIGH:g}L{left:g} {HIGH:g}Z"
    peak = (float(x[best]), float(y[best]))
    return Strip(name, length, stills, curve, area, peak, float(drawn[best, 0]), float(drawn[best, 1]), spans)


def _reach(ranking: Ranking, window: int) -> np.ndarray:
    """When the rows of a window begin and end. Shapes: -> [2] s."""
    assert ranking.start is not None
    assert ranking.end is not None
    return np.array([np.nanmin(ranking.start[window]), np.nanmax(ranking.end[window])], dtype=np.float64)


def _points(ranking: Ranking, window: int, scores: np.ndarray | None) -> np.ndarray:
    """(middle s, score) of a window's rows in order of time; of rows of one time the best. Shapes: [n, 2]."""
    if scores is None or ranking.start is None or ranking.end is None:
        return np.zeros((0, 2))
    middle = (ranking.start[window] + ranking.end[window]) / 2
    known = np.isfinite(middle) & np.isfinite(scores)
    middle, scores = middle[known], scores[known]
    order = np.lexsort((-scores, middle))
    middle, scores = middle[order], scores[order]
    first = np.flatnonzero(np.diff(middle, prepend=-np.inf) > 0)
    return np.stack([middle[first], scores[first]], 1)
