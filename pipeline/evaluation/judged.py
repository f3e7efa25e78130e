"""Queries that several videos answer: what a file says of a split, the measures, and their part of the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.datasets import relevance as files
from pipeline.datasets.table import Annotations
from pipeline.evaluation.markdown import Row, markdown, spread
from pipeline.ranking import relevance
from pipeline.ranking.metrics import recalls
from pipeline.ranking.split import Split

COLUMNS = ("R@1", "SumR", "any R@1", "any R@5", "any R@10", "any R@100", "any SumR", "coverage@1", "coverage@10", "coverage@100", "mAP")


@dataclass(frozen=True)
class Judgements:
    """The judgements of `evaluation.relevance` that a split can be measured with.

    Shapes: `pairs` [P, 2] query and relevant video, indices into the split; `own` [P] bool, whether it is the query's own video. `judged`
    queries of the split that the file names; `outside` relevant videos that are not in the gallery, which are left out.
    """

    file: str
    pairs: Tensor
    own: Tensor
    judged: int
    outside: int


def judgements(file: str | None, known: Annotations, split: Split) -> Judgements | None:
    """The judgements of a file about a split. Errors: DatasetError for a file that cannot be meant, or ids the annotations do not have."""
    if file is None:
        return None
    pairs = zip(known.queries["query_id"], known.queries["cap_id"], strict=True)
    answers = files.resolve(files.read(file), pairs, set(known.videos["video_id"]), file)
    place = {video: i for i, video in enumerate(split.videos.ids)}
    named = [(i, answers[query]) for i, query in enumerate(split.queries.ids) if query in answers]
    found = torch.tensor([(i, place[video]) for i, videos in named for video in videos if video in place]).reshape(-1, 2)
    own = split.queries.video[found[:, 0]] == found[:, 1]
    return Judgements(file, found, own, judged=len(named), outside=sum(len(videos) for _, videos in named) - len(found))


def measures(given: Judgements | None, scores: dict[str, Tensor], by_branch: dict[str, Tensor]) -> dict[str, Any] | None:
    """The measures of queries that several videos answer, by branch, beside the recall of their own video alone; None without a file."""
    if given is None:
        return None
    queries = len(next(iter(by_branch.values())))
    owner = given.pairs[:, 0].numpy()
    judged = np.unique(owner)
    result: dict[str, Any] = {
        "file": given.file,
        "queries": len(judged),
        "without": given.judged - len(judged),
        "mean": len(owner) / max(1, len(judged)),
        "several": int((np.bincount(owner, minlength=1) > 1).sum()),
        "own_not_relevant": len(judged) - int(given.own.sum()),
        "outside": given.outside,
        "measures": {},
    }
    for name, matrix in scores.items() if len(judged) else ():
        measured = relevance.per_query(relevance.relevant_ranks(matrix, given.pairs), owner, queries)
        result["measures"][name] = {**recalls(by_branch[name][judged]), **relevance.summary(measured)}
    return result


def lines(about: dict[str, Any] | None) -> list[str]:
    """What is printed of the queries that several videos answer."""
    if not about:
        return []
    said = [
        f"  {about['file']}: {about['queries']} queries, {about['mean']:.2f} relevant videos each, {about['several']} with several; "
        f"{about['own_not_relevant']} whose own video is not among them, {about['without']} without any in the gallery"
    ]
    for branch, values in about["measures"].items():
        said.append(f"  {branch:<17}" + "".join(f"{key} {values[key]:6.2f}  " for key in ("any R@1", "any SumR", "coverage@10", "mAP")))
    return said


def section(runs: dict[str, list[dict[str, Any]]]) -> str:
    """The queries several videos answer: recall of the own video, of any relevant one, the share of them found, average precision."""
    measured = {name: [run for run in seeds if (run.get("relevance") or {}).get("measures")] for name, seeds in runs.items()}
    tables: dict[tuple[Any, ...], list[Row]] = {}
    for experiment, seeds in measured.items():
        for run in seeds[:1]:
            about = run["relevance"]
            key = (about["file"], about["queries"], about["mean"], about["own_not_relevant"])
            of_file = [other["relevance"]["measures"]["fused"] for other in seeds if other["relevance"]["file"] == about["file"]]
            row = [experiment, *(spread(values[column] for values in of_file) for column in COLUMNS)]
            tables.setdefault(key, []).append(row)
    parts = []
    for (file, queries, mean, without), rows in tables.items():
        head = (
            f"Several videos may answer a query ({file}: {queries} queries, {mean:.2f} videos each; the own video of {without} is not "
            "among them):"
        )
        parts.append(f"{head}\n\n{markdown(['model', *COLUMNS], rows)}")
    if parts:
        parts.append(
            "R@K and SumR: the own video alone; any: the best relevant one; coverage@K: share of a query's relevant videos in the first K."
        )
    return "\n\n".join(parts)
