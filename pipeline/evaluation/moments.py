"""Where in its video a query is answered: the best frame against the annotated moment, and moment windows from frame scores."""

from __future__ import annotations

import numpy as np

WINDOWS = 10  # moment predictions kept per query


def _owners(offsets: np.ndarray) -> np.ndarray:
    """The item of each row of a ragged array."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def within(offsets: np.ndarray, values: np.ndarray, durations: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The moments cut to their video; those that begin after its end (times that are no seconds, as a rule) are left out.

    Shapes: ragged moments `offsets` [Q+1], `values` [n, 2] s; `durations` [Q] s of the query's video, NaN when unknown. Returns offsets
    and values again, and [Q] bool: which queries lost a moment.
    """
    owner = _owners(offsets)
    limit = np.where(durations > 0, durations, np.inf)[owner]
    kept = values[:, 0] <= limit * (1 + 1e-9)  # scaled to the file's time line, an annotated end may miss the file's by a rounding
    count = len(offsets) - 1
    lost = np.bincount(owner[~kept], minlength=count) > 0
    return np.cumsum([0, *np.bincount(owner[kept], minlength=count)]), np.minimum(values, limit[:, None])[kept], lost


def inside(times: np.ndarray, offsets: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Whether each time lies in one of its query's moments.

    Shapes: `times` [Q] s; ragged moments `offsets` [Q+1], `values` [n, 2] s; returns [Q] bool, False where there is no moment.
    """
    owner = _owners(offsets)
    hit = (values[:, 0] <= times[owner]) & (times[owner] <= values[:, 1])
    return np.bincount(owner, weights=hit, minlength=len(times)) > 0


def coverage(offsets: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Seconds covered by the union of each query's moments, overlaps counted once: [Q], 0 where there is none.

    Shapes: ragged moments `offsets` [Q+1], `values` [n, 2] s.
    """
    owner = _owners(offsets)
    if not len(values):
        return np.zeros(len(offsets) - 1)
    order = np.lexsort((values[:, 0], owner))
    owner, start, end = owner[order], values[order, 0], values[order, 1]
    # Lifting each query onto its own stretch of the time line lets one running maximum serve all of them.
    lift = owner * (np.abs(values).max() + 1.0) * 2
    reached = np.concatenate([[-np.inf], np.maximum.accumulate(end + lift)[:-1]])
    return np.bincount(owner, weights=np.maximum(0.0, end + lift - np.maximum(start + lift, reached)), minlength=len(offsets) - 1)


def ratios(offsets: np.ndarray, values: np.ndarray, durations: np.ndarray) -> np.ndarray:
    """Moment-to-video ratio of each query, at most 1; NaN when its moments or the duration are unknown.

    Shapes: moments as above; `durations` [Q] s of the query's video. Source: docs/method.md 8.4.
    """
    covered = coverage(offsets, values)
    known = (np.diff(offsets) > 0) & (durations > 0)
    return np.where(known, np.minimum(1.0, covered / np.where(known, durations, 1.0)), np.nan)


def windows(
    similarity: np.ndarray, start: np.ndarray, end: np.ndarray, *, level: float = 0.5, limit: int = WINDOWS
) -> list[list[list[float]]]:
    """Moment predictions: the runs of rows whose score lies above `level` of the way from the video's mean to its best, best run first.

    Shapes: `similarity` [Q, L] cosine of each query with its video's rows, minus infinity at padding; `start`, `end` [Q, L] s. Returns per
    query at most `limit` windows [start s, end s, score], score = the run's best row. The first window holds the best-scoring row. Rows
    of one time, which a short video repeats, count as one with the best of their scores: windows never overlap.
    """
    similarity = _best_at_each_time(similarity, start, end)
    real = np.isfinite(similarity)
    peak = similarity.max(1, keepdims=True)
    mean = np.where(real, similarity, 0).sum(1, keepdims=True) / real.sum(1, keepdims=True).astype(similarity.dtype)
    # A still video's scores are all one number, and the rounded mean of equal numbers may lie above them.
    keep = similarity >= peak - (1.0 - level) * np.maximum(peak - mean, 0)
    edge = np.diff(np.pad(keep, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    query, first = np.nonzero(edge == 1)
    _, past = np.nonzero(edge == -1)
    length = similarity.shape[1]
    # reduceat wants begin, end pairs on the flat array; a run that ends with the array has no end of its own.
    flat = np.append(similarity.ravel(), -np.inf)
    best = (
        np.maximum.reduceat(flat, np.stack([query * length + first, query * length + past], 1).ravel())[::2] if len(query) else np.zeros(0)
    )
    order = np.lexsort((first, -best, query))
    predicted: list[list[list[float]]] = [[] for _ in range(len(similarity))]
    for q, a, b, s in zip(query[order], first[order], past[order], best[order], strict=True):
        if len(predicted[q]) < limit:
            predicted[q].append([float(start[q, a]), float(end[q, b - 1]), float(s)])
    return predicted


def _best_at_each_time(similarity: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Each run of rows that cover the same time gets its best score. Shapes: all [Q, L]; unknown times leave rows apart."""
    first = np.ones(similarity.shape, dtype=bool)
    first[:, 1:] = (start[:, 1:] != start[:, :-1]) | (end[:, 1:] != end[:, :-1])
    at = np.flatnonzero(first.ravel())
    if len(at) == similarity.size:
        return similarity
    best = np.maximum.reduceat(similarity.ravel(), at)
    return np.repeat(best, np.diff(np.append(at, similarity.size))).reshape(similarity.shape)


def saliency(similarity: np.ndarray, start: np.ndarray, duration: float, *, every: float = 2.0) -> list[float]:
    """The scores of one query's rows read on a regular grid: the row that is showing at the middle of each cell.

    Shapes: `similarity` [L], `start` [L] s (non-decreasing), `duration` s; returns max(1, round(duration / every)) scores.
    """
    middle = (np.arange(max(1, round(duration / every))) + 0.5) * every
    return [float(s) for s in similarity[np.clip(np.searchsorted(start, middle, side="right") - 1, 0, len(start) - 1)]]


def summary(times: np.ndarray, offsets: np.ndarray, values: np.ndarray, ratio: np.ndarray) -> dict[str, float] | None:
    """Share of queries whose best frame lies inside the moment, in percent, and the share a random instant would reach.

    Shapes: `times` [Q] s of the best frame in the true video (NaN unknown), moments as above, `ratio` [Q].
    Only queries with known moments, duration and time count; None when there is none.
    """
    known = ~np.isnan(ratio) & ~np.isnan(times)
    if not known.any():
        return None
    return {
        "inside": float(inside(times, offsets, values)[known].mean() * 100),
        "chance": float(ratio[known].mean() * 100),
        "queries": int(known.sum()),
    }
