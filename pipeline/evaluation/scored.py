"""From a model and a split to all that is kept of their scores: a block of queries at a time, since no matrix of all may fit anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.config.method import Experiment
from pipeline.evaluation import collapse
from pipeline.evaluation.inputs import Inputs
from pipeline.evaluation.zero_shot import ZeroShot
from pipeline.models.base import Encoded, Retriever
from pipeline.ranking import gallery
from pipeline.ranking.metrics import ranks, top
from pipeline.ranking.relevance import relevant_ranks
from pipeline.ranking.room import Room

DEPTH = 100  # best videos kept per query
HITS = 5  # of them located: at which frame they answer best

Reference = Callable[[slice], ZeroShot]  # the scores of some queries that a reference gives


@dataclass(frozen=True)
class Ranked:
    """Everything computed for one split, on the CPU.

    Shapes: `queries` as the model encoded them; `provides`, what of them the measures may read (models.base.Retriever);
    `ranks` [Q] of the true video and `relevant` [P] of every judged one (empty without judgements), by the fused score, by each branch, and
    by the reference's two where there is one; `top` [Q, <=100] the best videos and their `top_scores`; `similarity` [Q, F] of each query
    with the frames of its own video, `first` [Q, F] with those of its first hit; `best_rows` [Q, <=5] the best frame of each of its first
    hits; `structure` of the frames of the gallery (collapse.video_structure) and `zero_shot_time` [Q] s of the reference's best row, or
    None.
    """

    queries: Encoded
    provides: frozenset[str]
    ranks: dict[str, Tensor]
    relevant: dict[str, Tensor]
    top: Tensor
    top_scores: Tensor
    windows: Tensor
    similarity: Tensor
    first: Tensor
    best_rows: Tensor
    structure: dict[str, float] | None
    zero_shot_time: Tensor | None


def rank(
    model: Retriever, read: Inputs, chosen: Experiment, device: torch.device, reference: Reference | None, room: Room | None = None
) -> Ranked:
    """Encode a split and score it; a gallery that `room` has no memory for lies in its files."""
    model, split = model.to(device), read.split
    queries, videos = gallery.encode(model, split, device, show=True, room=room)
    fusion, judged = chosen.evaluation.fusion(model.branches), _judged(read)

    def ours(rows: slice) -> dict[str, Tensor]:
        each = gallery.score(model, gallery.part(queries, rows), videos, fusion)
        scores = gallery.of_videos(each, split.windows)
        best = top(scores.fused, DEPTH)
        asked = (split.queries.video[rows].to(device), *best[:, :HITS].unbind(1))
        shown = torch.stack([split.windows.found(each.fused, of) for of in asked], 1)
        kept = {"top": best.cpu(), "scores": scores.fused.gather(1, best).cpu(), "windows": shown.cpu()}
        return kept | _places(scores.named, rows, split.queries.video, judged)

    def theirs(rows: slice) -> dict[str, Tensor]:
        assert reference is not None
        scores = reference(rows)
        named = {"zero_shot": scores.rows, "zero_shot_pooled": scores.pooled}
        return {"time": torch.from_numpy(scores.best_time)} | _places(named, rows, split.queries.video, judged)

    found = gallery.by_block(lambda rows: ours(rows) | (theirs(rows) if reference else {}), len(split.queries), len(split.videos))
    located = (gallery.locate(model, queries, videos, of.to(device), split.videos.frame_count).cpu() for of in found["windows"].unbind(1))
    similarity, first = next(located), next(located)
    return Ranked(
        {name: value.cpu() for name, value in queries.items()},
        model.provides,
        _named(found, "rank "),
        _named(found, "relevant "),
        found["top"],
        found["scores"],
        found["windows"],
        similarity,
        first,
        torch.stack([first.argmax(1), *(hit.argmax(1) for hit in located)], 1),
        collapse.video_structure(videos["frames"], split.videos.frame_count) if "video.frames" in model.provides else None,
        found.get("time"),
    )


def _judged(read: Inputs) -> Tensor:
    """Pairs of a query and a video that answers it, ordered by query. Shapes: -> [P, 2]."""
    return torch.zeros(0, 2, dtype=torch.int64) if read.judged is None else read.judged.pairs


def _places(scores: dict[str, Tensor], rows: slice, truth: Tensor, judged: Tensor) -> dict[str, Tensor]:
    """The ranks of the true videos of some queries, and of those that are judged to answer them, by name of the scores."""
    first, end = torch.searchsorted(judged[:, 0].contiguous(), torch.tensor([rows.start, rows.stop])).tolist()
    pairs = judged[first:end] - torch.tensor([rows.start, 0])
    found = {f"rank {name}": ranks(matrix, truth[rows]).cpu() for name, matrix in scores.items()}
    return found | {f"relevant {name}": torch.from_numpy(relevant_ranks(matrix, pairs)) for name, matrix in scores.items()}


def _named(found: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    return {name.removeprefix(kind): values for name, values in found.items() if name.startswith(kind)}
