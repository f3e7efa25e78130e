"""Whether a trained model scores a video by its best token in each branch, which is what an index of tokens can answer.

That is found out, not declared: what the model encodes is tried, entry by entry, against what it ranks. A model of one's own is treated
alike, and one that ranks in another way (a late interaction, proposals made of clips) is never taken for what it is not: it scores every
video itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.models.base import Encoded, Retriever
from pipeline.models.scores import max_cosine
from pipeline.ranking.gallery import evaluating
from pipeline.ranking.split import real_rows
from pipeline.search.index import EncodedShard, Index
from pipeline.search.tokens import Rows, Shard, Tokens

SAMPLE = 32  # videos tried, the shortest among them: padding tells models apart
ALIKE = 1e-5  # largest difference between one score worked out in two ways


class BestOf(NamedTuple):
    """A branch's score is the largest cosine of the query's `vector` with the video's `tokens`, where `mask` (none: "") is not 0."""

    vector: str
    tokens: str
    mask: str = ""


def best_tokens(model: Retriever, queries: Encoded, index: Index) -> dict[str, BestOf]:
    """What each branch's score is the best of; empty when one of them is something else. Shapes: `queries` of a few sentences."""
    some = np.unique(np.argsort(index.frame_count.numpy(), kind="stable")[: SAMPLE // 2].tolist() + list(range(SAMPLE // 2)))
    videos = index.part([int(i) for i in some if i < len(index.ids)])
    with evaluating(model):
        ranked = model.rank(queries, videos)
        found = {branch: _explains(ranked[branch], queries, videos) for branch in model.branches}
    return {branch: best for branch, best in found.items() if best is not None} if None not in found.values() else {}


def _explains(scores: Tensor, queries: Encoded, videos: Encoded) -> BestOf | None:
    for vector, asked in queries.items():
        for name, value in videos.items():
            tokens = _tokens(value)
            if asked.ndim != 2 or tokens is None or tokens.shape[2] != asked.shape[1]:
                continue
            masks = [mask for mask, real in videos.items() if real.shape == tokens.shape[:2] and _leading(real)]
            for mask in ["", *masks]:
                best = max_cosine(asked, tokens, videos[mask] if mask else None)
                if best.shape == scores.shape and torch.allclose(best, scores.float(), atol=ALIKE, rtol=0):
                    return BestOf(vector, name, mask)
    return None


def _tokens(value: Tensor) -> Tensor | None:
    """An entry as tokens: [V, L, H] as it is, [V, H] as one token a video, anything else not."""
    return value if value.ndim == 3 else value[:, None] if value.ndim == 2 else None


def _leading(real: Tensor) -> bool:
    """Whether a mask says which rows come first, as that of padding does. Shapes: [V, L]."""
    return bool((real == real_rows(real.sum(1), real.shape[1]).to(real.dtype)).all())


def tokens_of(index: Index, best: Mapping[str, BestOf]) -> Tokens | None:
    """The tokens of an index, mapped; None when a video's mask is not that of padding."""
    shards = [Shard(shard.ids, shard.digests, branches) for shard in index.shards if (branches := _rows(shard, best)) is not None]
    return Tokens(shards) if len(shards) == len(index.shards) else None


def _rows(shard: EncodedShard, best: Mapping[str, BestOf]) -> dict[str, Rows] | None:
    made = {}
    for branch, entry in best.items():
        values = shard.gallery[entry.tokens]
        count, each = values.shape[0], values.shape[1] if len(values.shape) == 3 else 1
        length = np.full(count, each, np.int64)
        if entry.mask:
            real = torch.from_numpy(np.asarray(shard.gallery[entry.mask][:]))
            if not _leading(real):
                return None
            length = real.sum(1).numpy().astype(np.int64)
        made[branch] = Rows(values.flat() if len(values.shape) == 3 else values, np.arange(count) * each, length)
    return made
