"""From ranks, scores and times to the per-query table and the numbers of one run: no files, no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline.evaluation import collapse, judged, moments, time_line
from pipeline.evaluation.inputs import Inputs
from pipeline.evaluation.zero_shot import ZeroShot
from pipeline.models.base import Encoded
from pipeline.ranking.gallery import ScoreMatrices
from pipeline.ranking.metrics import chance, ranks, recalls


@dataclass(frozen=True)
class Ranked:
    """Everything computed for one split.

    Shapes: `queries` and `gallery` as the model encoded them; `provides`, what of them the measures may read (models.base.Retriever);
    `scores` [Q, V]; `similarity` [Q, F] of each query with the frames of its own video, `first` [Q, F] with those of its first hit;
    `best_rows` [Q, <=5] the best frame of each of its first hits; `zero_shot` or None.
    """

    queries: Encoded
    gallery: Encoded
    provides: frozenset[str]
    scores: ScoreMatrices
    similarity: Tensor
    first: Tensor
    best_rows: Tensor
    zero_shot: ZeroShot | None


def branch_ranks(ranked: Ranked, truth: Tensor) -> dict[str, Tensor]:
    """Ranks [Q] by fused score, by each branch, and by zero-shot where there is one."""
    return {name: ranks(matrix, truth).cpu() for name, matrix in _scores(ranked).items()}


def _scores(ranked: Ranked) -> dict[str, Tensor]:
    scores = {"fused": ranked.scores.fused, **ranked.scores.branches}
    if ranked.zero_shot is not None:
        scores |= {"zero_shot": ranked.zero_shot.rows, "zero_shot_pooled": ranked.zero_shot.pooled}
    return scores


def query_table(inputs: Inputs, ranked: Ranked, by_branch: dict[str, Tensor], windows: list[list[list[float]]]) -> pd.DataFrame:
    """One row per query: ranks, the best video, the best frame's time (s) in its own video, the moment predicted there, and if it is right.

    `inside_moment` is 1 or 0, -1 where moments or times are unknown; `ratio` is the moment-to-video ratio.
    """
    split = inputs.split
    truth = split.queries.video.numpy()
    best = ranked.similarity.argmax(1).cpu().numpy()
    middle = (split.videos.start + split.videos.end)[truth, best] / 2
    ratio = moments.ratios(*inputs.moments, split.videos.duration[truth])
    known = ~np.isnan(middle) & (np.diff(inputs.moments[0]) > 0)
    table = pd.DataFrame({"query_id": split.queries.ids, "video_id": [split.videos.ids[i] for i in truth]})
    for name, values in by_branch.items():
        table[f"rank_{name}"] = values.numpy()
    table["best_video"] = [split.videos.ids[i] for i in ranked.scores.fused.argmax(1).tolist()]
    table["best_time"] = middle
    table["moment_start"] = [rows[0][0] for rows in windows]
    table["moment_end"] = [rows[0][1] for rows in windows]
    table["inside_moment"] = np.where(known, moments.inside(middle, *inputs.moments), -1).astype(np.int8)
    table["ratio"] = ratio
    table["group"] = inputs.queries.get("group", pd.Series([""] * len(table))).to_numpy()
    return table


def numbers(inputs: Inputs, ranked: Ranked, by_branch: dict[str, Tensor], table: pd.DataFrame) -> dict[str, Any]:
    """The measures of a run: recalls of every branch and per group, moments, collapse, the gallery and its chance level."""
    videos = len(inputs.split.videos)
    groups = {}
    for group in sorted(set(table["group"]) - {""}):
        chosen = torch.tensor((table["group"] == group).tolist())
        groups[group] = {"queries": int(chosen.sum()), **{name: recalls(values[chosen]) for name, values in by_branch.items()}}
    return {
        "gallery": {"name": inputs.gallery, "videos": videos, "queries": len(table)},
        "recalls": {name: recalls(values) for name, values in by_branch.items()},
        "chance": chance(videos),
        "relevance": judged.measures(inputs.judged, _scores(ranked), by_branch),
        "groups": groups,
        "moments": _moments(inputs, ranked, by_branch, table),
        "collapse": _collapse(inputs, ranked, by_branch),
        "excluded": {"videos": inputs.excluded_videos, "queries": inputs.excluded_queries, "moments": inputs.beyond},
    }


def _moments(inputs: Inputs, ranked: Ranked, by_branch: dict[str, Tensor], table: pd.DataFrame) -> dict[str, Any] | None:
    """How often the best frame lies in the moment, ours and zero-shot's, against chance; and recall by moment-to-video ratio."""
    ratio = table["ratio"].to_numpy()
    frame = moments.summary(table["best_time"].to_numpy(), *inputs.moments, ratio)
    if frame is None:
        return None
    result: dict[str, Any] = {"frame": frame, "by_ratio": moments.by_ratio(by_branch["fused"], ratio), "time_line": _time_line(inputs)}
    if ranked.zero_shot is not None:
        result["zero_shot"] = moments.summary(ranked.zero_shot.best_time, *inputs.moments, ratio)
    return result


def _time_line(inputs: Inputs) -> dict[str, Any]:
    return time_line.differences(inputs.split.videos.ids, inputs.annotated, inputs.split.videos.duration)


def _collapse(inputs: Inputs, ranked: Ranked, by_branch: dict[str, Tensor]) -> dict[str, Any]:
    """Tables 8, 9 and A2: ours (`model`) beside the frozen inputs' (`foundation`); what the model does not provide is left out."""
    truth = inputs.split.queries.video
    result: dict[str, Any] = {"text": {}, "video": {"foundation": collapse.video_structure(inputs.split.videos.clips)}}
    pooled = ranked.queries["pooled"] if "query.pooled" in ranked.provides else None
    if pooled is not None:
        result["text"]["model"] = collapse.text_structure(pooled, truth)
    if "video.frames" in ranked.provides:
        result["video"]["model"] = collapse.video_structure(ranked.gallery["frames"], inputs.split.videos.frame_count)
    foundation = {"foundation": inputs.split.queries.sentence, "teacher": inputs.split.queries.teacher}
    for name, vectors in foundation.items():
        if vectors is not None:
            result["text"][name] = collapse.text_structure(vectors, truth)
            if pooled is not None:
                result["text"][f"agreement_with_{name}"] = collapse.spearman(pooled, vectors)
    if "zero_shot" in by_branch:
        result["against_zero_shot"] = collapse.against(by_branch["fused"], by_branch["zero_shot"])
    return result
