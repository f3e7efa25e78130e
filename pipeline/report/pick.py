"""Which queries of a ranking are shown: a fair sample, the worst failures, and the rows of the table of wins and losses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.core.store import Reader
from pipeline.report.runs import Bench

EXAMPLES = 6  # queries of the sample
FAILURES = 6
ROWS = 500  # of a table
MODELS = 6  # columns of ranks


@dataclass(frozen=True)
class Ranking:
    """One run's ranking, as evaluation.h5 holds it.

    Shapes: `ranks` [Q]; `own` [Q] index of the query's video; `top`, `scores` [Q, K] best videos and their scores; `rows` [Q, <=5] the best
    frame of the first hits; `own_rows`, `first_rows` [Q, F] scores of the true video's and the first hit's frames, NaN at padding;
    `start`, `end` [U, F] s of the rows of every window, `of` [U] the video it is of; `windows` [Q, <=5] the best window of each first hit,
    `own_window` [Q] that of the true video. All but the first five are None in files of before they were kept; a video is a window then.
    """

    videos: list[str]
    ranks: np.ndarray
    own: np.ndarray
    top: np.ndarray
    scores: np.ndarray
    rows: np.ndarray | None
    own_rows: np.ndarray | None
    first_rows: np.ndarray | None
    start: np.ndarray | None
    end: np.ndarray | None
    windows: np.ndarray | None = None
    own_window: np.ndarray | None = None
    of: np.ndarray | None = None

    def length(self, video: int) -> float:
        """Seconds of a video, NaN unknown."""
        if self.end is None:
            return float("nan")
        end = self.end[video] if self.of is None else self.end[self.of == video]
        return float(end[np.isfinite(end)].max(initial=-np.inf)) if np.isfinite(end).any() else float("nan")

    def window(self, query: int, place: int) -> int:
        """The window with which the hit at `place` answers a query best."""
        return int(self.top[query, place] if self.windows is None else self.windows[query, place])

    def window_of_own(self, query: int) -> int:
        """The same of the true video."""
        return int(self.own[query] if self.own_window is None else self.own_window[query])

    def best_time(self, query: int, place: int) -> float:
        """The middle of the frame with which the hit at `place` answers a query best, s; NaN unknown."""
        if self.rows is None or self.start is None or self.end is None or place >= self.rows.shape[1]:
            return float("nan")
        window, row = self.window(query, place), self.rows[query, place]
        return float(self.start[window, row] + self.end[window, row]) / 2

    def own_time(self, query: int) -> float:
        """The same of the true video."""
        if self.own_rows is None or self.start is None or self.end is None or np.isnan(self.own_rows[query]).all():
            return float("nan")
        window, row = self.window_of_own(query), int(np.nanargmax(self.own_rows[query]))
        return float(self.start[window, row] + self.end[window, row]) / 2


def read(store: Reader) -> Ranking:
    """The ranking in an open evaluation.h5. Errors: StoreError."""
    videos = [str(video) for video in store.array("videos")]
    place = {video: i for i, video in enumerate(videos)}
    kept = {name: store.array(path) if path in store else None for name, path in _KEPT.items()}
    return Ranking(
        videos,
        store.array("queries/rank_fused"),
        np.asarray([place[str(video)] for video in store.array("queries/video_id")], dtype=np.int64),
        store.array("top/videos"),
        store.array("top/scores"),
        **kept,
    )


_KEPT = {
    "rows": "top/rows",
    "own_rows": "strips/own",
    "first_rows": "strips/first",
    "start": "rows/start",
    "end": "rows/end",
    "windows": "windows/top",
    "own_window": "windows/own",
    "of": "rows/video",
}


def sample(ranks: np.ndarray, own: Sequence[int] | np.ndarray, count: int = EXAMPLES) -> list[int]:
    """Queries taken evenly from the best ranked to the worst, one a video where that can be. Shapes: `ranks`, `own` [Q]."""
    order = _one_a_video(np.lexsort((np.arange(len(ranks)), ranks)), own)
    return [order[i] for i in sorted({round(i) for i in np.linspace(0, len(order) - 1, min(count, len(order)))})]


def worst(ranks: np.ndarray, own: Sequence[int] | np.ndarray, count: int = FAILURES) -> list[int]:
    """The queries whose video is ranked lowest, one a video; none of those that are right. Shapes: `ranks`, `own` [Q]."""
    order = _one_a_video(np.lexsort((np.arange(len(ranks)), -ranks)), own)
    return [query for query in order if ranks[query] > 1][:count]


def _one_a_video(order: Iterable[int], own: Sequence[int] | np.ndarray) -> list[int]:
    seen: dict[int, int] = {}
    for query in order:
        seen.setdefault(int(own[query]), int(query))
    return list(seen.values())


def reference(bench: Bench) -> tuple[str, np.ndarray | None]:
    """What the best model is held against: zero-shot, else the next best model, else nothing. Shapes: [seeds, Q]."""
    if bench.zero_shot is not None:
        return "zero-shot", bench.zero_shot
    if len(bench.models) > 1:
        return bench.models[1].name, bench.models[1].ranks
    return "", None


def table(bench: Bench, texts: dict[str, str], limit: int = ROWS) -> dict[str, Any]:
    """The rows of wins and losses: the queries whose rank differs most between the best model and the reference, as plain values.

    A rank is the median over seeds. Without a reference: the worst ranked.
    """
    name, other = reference(bench)
    shown = bench.models[:MODELS]
    ranks = {model.name: np.median(model.ranks, axis=0) for model in shown}
    ours = ranks[shown[0].name]
    theirs = np.median(other, axis=0) if other is not None else np.ones_like(ours)
    change = np.log2(theirs / ours)
    order = np.lexsort((np.arange(len(ours)), -np.abs(change)))[:limit]
    columns = {**({name: theirs} if name == "zero-shot" else {}), **ranks}
    rows = [
        {
            "query": cut(texts.get(bench.queries[q], bench.queries[q])),
            "id": cut(bench.queries[q], 80),
            "video": cut(bench.videos_of[q], 80),
            "ratio": None if np.isnan(bench.ratio[q]) else round(float(bench.ratio[q]), 3),
            "group": cut(bench.groups[q], 40),
            "outcome": "" if other is None else ("better" if change[q] > 0 else "worse" if change[q] < 0 else "same"),
            "ranks": [float(values[q]) for values in columns.values()],
        }
        for q in order.tolist()
    ]
    return {"models": list(columns), "reference": name, "rows": rows, "total": len(ours)}


def cut(text: str, limit: int = 240) -> str:
    """Text no longer than a page can bear."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
