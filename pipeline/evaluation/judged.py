"""Queries that several videos answer: what a file says of a split, and the measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.datasets import relevance as files
from pipeline.datasets.table import Annotations
from pipeline.ranking import relevance
from pipeline.ranking.metrics import recalls
from pipeline.ranking.split import Split


@dataclass(frozen=True)
class Judgements:
    """The judgements of `evaluation.relevance` that a split can be measured with.

    Shapes: `pairs` [P, 2] query and relevant video, indices into the split, ordered by query; `own` [P] bool, whether it is the query's
    own video. `judged` queries of the split that the file names; `outside` relevant videos that are not in the gallery, which are left
    out.
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
    place = {video: i for i, video in enumerate(split.ids)}
    named = [(i, answers[query]) for i, query in enumerate(split.queries.ids) if query in answers]
    found = torch.tensor([(i, place[video]) for i, videos in named for video in videos if video in place]).reshape(-1, 2)
    own = split.queries.video[found[:, 0]] == found[:, 1]
    return Judgements(file, found, own, judged=len(named), outside=sum(len(videos) for _, videos in named) - len(found))


def measures(given: Judgements | None, ranked: dict[str, Tensor], by_branch: dict[str, Tensor]) -> dict[str, Any] | None:
    """The measures of queries that several videos answer, by branch, beside the recall of their own video alone; None without a file.

    Shapes: `ranked` [P] of every pair, `by_branch` [Q] of the queries' own videos.
    """
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
    for name, places in ranked.items() if len(judged) else ():
        measured = relevance.per_query(places.numpy(), owner, queries)
        result["measures"][name] = {**recalls(by_branch[name][judged]), **relevance.summary(measured)}
    return result
