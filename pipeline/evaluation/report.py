"""From ranks, scores and times to the per-query table and the numbers of one run: no files, no model."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline.datasets import time_line
from pipeline.evaluation import collapse, judged, moments
from pipeline.evaluation.inputs import Inputs
from pipeline.evaluation.scored import Ranked
from pipeline.ranking.metrics import chance, recalls

RATIO_EDGES = (0.0, 0.1, 0.2, 0.4, 0.6, 1.0)


def query_table(inputs: Inputs, ranked: Ranked, windows: list[list[list[float]]]) -> pd.DataFrame:
    """One row per query: ranks, the best video, the best frame's time (s) in its own video, the moment predicted there, and if it is right.

    `inside_moment` is 1 or 0, -1 where moments or times are unknown; `ratio` is the moment-to-video ratio.
    """
    split = inputs.split
    truth = split.queries.video.numpy()
    best = ranked.similarity.argmax(1).cpu().numpy()
    middle = (split.videos.start + split.videos.end)[ranked.windows[:, 0].numpy(), best] / 2
    ratio = moments.ratios(*inputs.moments, split.durations[truth])
    known = ~np.isnan(middle) & (np.diff(inputs.moments[0]) > 0)
    table = pd.DataFrame({"query_id": split.queries.ids, "video_id": [split.ids[i] for i in truth]})
    for name, values in ranked.ranks.items():
        table[f"rank_{name}"] = values.numpy()
    table["best_video"] = [split.ids[i] for i in ranked.top[:, 0].tolist()]
    table["best_time"] = middle
    table["moment_start"] = [rows[0][0] for rows in windows]
    table["moment_end"] = [rows[0][1] for rows in windows]
    table["inside_moment"] = np.where(known, moments.inside(middle, *inputs.moments), -1).astype(np.int8)
    table["ratio"] = ratio
    table["group"] = inputs.queries.get("group", pd.Series([""] * len(table))).to_numpy()
    return table


def numbers(inputs: Inputs, ranked: Ranked, table: pd.DataFrame) -> dict[str, Any]:
    """The measures of a run: recalls of every branch and per group, moments, collapse, the gallery and its chance level."""
    videos, by_branch = len(inputs.split.ids), ranked.ranks
    groups = {}
    for group in sorted(set(table["group"]) - {""}):
        chosen = torch.tensor((table["group"] == group).tolist())
        groups[group] = {"queries": int(chosen.sum()), **{name: recalls(values[chosen]) for name, values in by_branch.items()}}
    return {
        "gallery": {"name": inputs.gallery, "videos": videos, "queries": len(table)},
        "recalls": {name: recalls(values) for name, values in by_branch.items()},
        "chance": chance(videos),
        "relevance": judged.measures(inputs.judged, ranked.relevant, by_branch),
        "groups": groups,
        "moments": _moments(inputs, ranked, table),
        "collapse": _collapse(inputs, ranked),
        "excluded": {"videos": inputs.excluded_videos, "queries": inputs.excluded_queries, "moments": inputs.beyond},
    }


def _moments(inputs: Inputs, ranked: Ranked, table: pd.DataFrame) -> dict[str, Any] | None:
    """How often the best frame lies in the moment, ours and zero-shot's, against chance; and recall by moment-to-video ratio."""
    ratio = table["ratio"].to_numpy()
    frame = moments.summary(table["best_time"].to_numpy(), *inputs.moments, ratio)
    if frame is None:
        return None
    result: dict[str, Any] = {"frame": frame, "by_ratio": by_ratio(ranked.ranks["fused"], ratio), "time_line": _time_line(inputs)}
    if ranked.zero_shot_time is not None:
        result["zero_shot"] = moments.summary(ranked.zero_shot_time.numpy(), *inputs.moments, ratio)
    return result


def by_ratio(ranks: Tensor, ratio: np.ndarray, edges: Sequence[float] = RATIO_EDGES) -> list[dict[str, Any]]:
    """Recalls of the queries in each range (low, high] of moment-to-video ratio; empty ranges are left out.

    Shapes: `ranks` [Q], `ratio` [Q]. Source: docs/method.md 8.4.
    """
    ranges = []
    for low, high in itertools.pairwise(edges):
        chosen = (ratio > low) & (ratio <= high)
        if chosen.any():
            ranges.append({"above": low, "up_to": high, "queries": int(chosen.sum()), **recalls(ranks[torch.from_numpy(chosen)])})
    return ranges


def _time_line(inputs: Inputs) -> dict[str, Any]:
    return time_line.differences(inputs.split.ids, inputs.annotated, inputs.split.durations)


def _collapse(inputs: Inputs, ranked: Ranked) -> dict[str, Any]:
    """Tables 8, 9 and A2: ours (`model`) beside the frozen inputs' (`foundation`); what the model does not provide is left out."""
    truth = inputs.split.queries.video
    result: dict[str, Any] = {"text": {}, "video": {"foundation": collapse.video_structure(inputs.split.videos.clips)}}
    pooled = ranked.queries["pooled"] if "query.pooled" in ranked.provides else None
    if pooled is not None:
        result["text"]["model"] = collapse.text_structure(pooled, truth)
    if ranked.structure is not None:
        result["video"]["model"] = ranked.structure
    foundation = {"foundation": inputs.split.queries.sentence, "teacher": inputs.split.queries.teacher}
    for name, vectors in foundation.items():
        if vectors is not None:
            result["text"][name] = collapse.text_structure(vectors, truth)
            if pooled is not None:
                result["text"][f"agreement_with_{name}"] = collapse.spearman(pooled, vectors)
    if "zero_shot" in ranked.ranks:
        result["against_zero_shot"] = collapse.against(ranked.ranks["fused"], ranked.ranks["zero_shot"])
    return result
