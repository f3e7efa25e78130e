"""An answer as the search page reads it: numbers for videos, the cut command of each moment, and the scores along each video."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.search import media
from pipeline.search.answers import Answer, verdict
from pipeline.search.engine import Engine

STRIP = 160  # most numbers along a video


def plain(engine: Engine, answer: Answer, asked: Any, model: str, most: int) -> dict[str, Any]:
    """The answer for JSON; of all videos that could have answered at most `most` can be asked for."""
    number = {video: i for i, video in enumerate(engine.ids)}
    hits = []
    strips = _strips(engine, asked, [number[hit.video_id] for hit in answer.hits])
    for hit, strip in zip(answer.hits, strips, strict=True):
        path = hit.paths[0] if hit.paths else ""
        moments = [{**asdict(moment), "cut": media.cut_command(path, moment.start, moment.end) if path else ""} for moment in hit.moments]
        plain = {"video": number[hit.video_id], "id": hit.video_id, "score": hit.score, "split": hit.split, "captions": hit.captions}
        times = {"best": _known(hit.best), "duration": _known(hit.duration)}
        hits.append({**plain, **times, "moments": moments, "file": Path(path).name if path else "", "strip": strip})
    about = {"query": answer.query, "model": model or answer.model, "matches": answer.matches, "standing": answer.standing}
    about |= {"verdict": verdict(answer), "first": answer.first, "found": min(answer.found, most), "learnt": answer.learnt}
    return {**about, "hits": hits}


def _known(number: float) -> float | None:
    return None if math.isnan(number) else number


def _strips(engine: Engine, asked: Any, videos: list[int]) -> list[list[float]]:
    """Of each video the scores along it as at most `STRIP` numbers from 0 to 1; empty without times."""
    if not videos:
        return []
    made: list[list[float]] = []
    rows, _, ends = engine.rows(asked, videos)
    for similarity, end in zip(rows, ends, strict=True):
        real = np.isfinite(similarity) & np.isfinite(end)
        values = similarity[real]
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
        scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
        parts = np.array_split(scaled, min(STRIP, len(scaled))) if len(scaled) else []
        made.append([round(float(part.max()), 3) for part in parts])
    return made
