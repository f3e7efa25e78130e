"""Results in the field's formats: TREC run, per-query JSON lines, QVHighlights-style moment predictions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from pipeline.core.atomic import replacing
from pipeline.evaluation.moments import saliency

JSONL_DEPTH = 10


def _write(path: Path, lines: Iterable[str]) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)


def _word(identifier: str) -> str:
    """An id as one word: TREC separates fields by white space, so that is percent-encoded (and the percent sign itself)."""
    return quote(str(identifier), safe="".join(chr(c) for c in range(33, 127) if c != ord("%")))


def trec_run(path: Path, queries: Sequence[str], videos: Sequence[str], top: np.ndarray, scores: np.ndarray, tag: str) -> None:
    """`query Q0 video rank score tag`, best first. Shapes: `top` [Q, K] int video indices, `scores` [Q, K]."""
    names = [_word(video) for video in videos]
    tag = _word(tag)
    _write(
        path,
        (
            f"{query} Q0 {names[video]} {rank} {score:.6f} {tag}"
            for query, row, values in zip(map(_word, queries), top, scores, strict=True)
            for rank, (video, score) in enumerate(zip(row, values, strict=True), start=1)
        ),
    )


def per_query(path: Path, table: pd.DataFrame, videos: Sequence[str], top: np.ndarray, scores: np.ndarray) -> None:
    """One JSON object per query: its row of the table (unknown values null) and the ten best videos with scores."""
    records = table.to_dict("records")
    _write(
        path,
        (
            json.dumps(
                {
                    **{str(key): plain(value) for key, value in record.items()},
                    "top": [
                        [videos[video], round(float(score), 6)]
                        for video, score in zip(row[:JSONL_DEPTH], values[:JSONL_DEPTH], strict=True)
                    ],
                },
                ensure_ascii=False,
            )
            for record, row, values in zip(records, top, scores, strict=True)
        ),
    )


def moment_predictions(
    path: Path,
    queries: pd.DataFrame,
    windows: Sequence[Sequence[Sequence[float]]],
    similarity: np.ndarray,
    start: np.ndarray,
    duration: np.ndarray,
) -> None:
    """QVHighlights submission lines: qid, query, vid, pred_relevant_windows [[start s, end s, score]], pred_saliency_scores per 2 s.

    Shapes: `similarity` [Q, L] (minus infinity at padding) and `start` [Q, L] s of each query's own video, `duration` [Q] s. Queries
    without times are left out.
    Give windows, starts and durations on the annotations' time line: these lines are read by scorers that know only that one.
    """

    def lines() -> Iterator[str]:
        for i, (query_id, video, text) in enumerate(zip(queries["query_id"], queries["video_id"], queries["query"], strict=True)):
            if np.isnan(start[i]).any() or not duration[i] > 0:
                continue
            real = np.isfinite(similarity[i])
            line = {
                "qid": int(query_id) if str(query_id).isdigit() else query_id,
                "query": text,
                "vid": video,
                "pred_relevant_windows": [[round(float(v), 4) for v in window] for window in windows[i]],
                "pred_saliency_scores": [round(v, 4) for v in saliency(similarity[i][real], start[i][real], float(duration[i]))],
            }
            yield json.dumps(line, ensure_ascii=False)

    _write(path, lines())


def plain(value: Any) -> Any:
    """A value JSON can hold: numpy scalars become Python's, what is not a number becomes null; dictionaries and lists alike inside."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
